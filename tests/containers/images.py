"""The images of a run: base images from Debian's packages, Windrow's own from the Dockerfile."""

import hashlib
import os
import re
import shutil
from pathlib import Path

from engine import Failed, run

HERE = Path(__file__).parent
WORKSPACE = HERE.parent.parent
DEBIAN = "docker.io/library/debian:bookworm-slim"
RABBITMQ = "windrow-test/rabbitmq"
AZURITE = "windrow-test/azurite"
RUST = "windrow-test/rust"
# Windrow's images: the program of each target that the Dockerfile has on its common base.
TARGETS = dict(re.findall(r'^FROM runtime AS (\S+)$.*?^ENTRYPOINT \["([^"]+)"\]$', (WORKSPACE / "Dockerfile").read_text(),
                          re.MULTILINE | re.DOTALL))
TAG = "dev"
# Variables with the proxies through which this machine reaches the package registries.
PROXIES = ["http_proxy", "https_proxy", "no_proxy"]
# `make test-containers-full` compiles everything in one step.
BUILD_ENDS_WITHIN = 7200
# Takes the place of Cargo in the short form: it "builds" the programs that were built outside.
CARGO = """#!/bin/sh
mkdir -p target/release
ln -sf /programs/* target/release/
"""


def copy_checkout(to):
    """Copies what belongs to the repository, as a clone would have it."""
    for name in run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=WORKSPACE).stdout.split("\0"):
        if name and (WORKSPACE / name).exists():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(WORKSPACE / name, to / name)


def base_images(engine, cache, suite):
    """Loads the base images, or builds them and keeps them in `cache`: Debian, RabbitMQ and Azurite."""
    azurite = WORKSPACE / "target/azurite"
    recipe = [HERE / "rabbitmq.Dockerfile", HERE / "azurite.Dockerfile", HERE / "images.py", azurite / "package.json"]
    recipe = hashlib.sha256(b"".join(path.read_bytes() for path in recipe) + suite.encode()).hexdigest()[:16]
    kept = cache / f"bases-{suite}-{recipe}.tar"
    if kept.exists():
        engine.docker("load", "--input", kept)
        return "from target/containers"
    system = engine.folder / "debian"
    run(["debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", str(system), "http://deb.debian.org/debian"])
    for path in ["var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"]:
        shutil.rmtree(system / path)
        (system / path).mkdir()
    # As in Docker Hub's image: apt keeps no caches.
    (system / "etc/apt/apt.conf.d/docker-clean").write_text('Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";\n')
    run(["sh", "-euc", f'tar --directory "$0" --create . | docker import - {DEBIAN}', str(system)], env=engine.environment)
    shutil.rmtree(system)
    build(engine, HERE, "--tag", RABBITMQ, "--file", HERE / "rabbitmq.Dockerfile", "--build-arg", f"SUITE={suite}")
    build(engine, azurite, "--tag", AZURITE, "--file", HERE / "azurite.Dockerfile")
    cache.mkdir(parents=True, exist_ok=True)
    for old in [*cache.glob(f"bases-{suite}-*"), *cache.glob("unfinished-*")]:
        old.unlink()
    # Under another name first: an interrupted run leaves no half of a file that looks whole.
    unfinished = cache / f"unfinished-{os.getpid()}"
    engine.docker("save", "--output", unfinished, DEBIAN, RABBITMQ, AZURITE)
    unfinished.rename(kept)
    return "built"


def build(engine, context, *options):
    """Builds an image and returns what the build said. Its RUN steps need the host's network.

    Compose hands the proxies on even if there are none, and the engine finds a step built only if both do."""
    value = {name: os.environ.get(name, os.environ.get(name.upper(), "")) for name in PROXIES}
    proxies = [word for name in PROXIES for word in ("--build-arg", f"{name}={value[name]}")]
    return engine.docker("build", "--network", "host", *proxies, *options, context, timeout=BUILD_ENDS_WITHIN).stdout


def stand_in_for_rust(engine, programs):
    """Builds an image whose Cargo only hands out the programs of the folder `programs`, without what is for debuggers."""
    context = engine.folder / "stand-in"
    (context / "programs").mkdir(parents=True)
    for program in TARGETS.values():
        run(["strip", "-o", str(context / "programs" / program), str(programs / program)])
    (context / "cargo").write_text(CARGO)
    (context / "cargo").chmod(0o755)
    (context / "Dockerfile").write_text(f"FROM {DEBIAN}\nCOPY programs /programs\nCOPY cargo /usr/local/bin/\n")
    build(engine, context, "--tag", RUST)
    shutil.rmtree(context)


def rust(engine):
    """Builds an image with this machine's Rust toolchain, in place of Docker Hub's rust:…-slim-bookworm."""
    sysroot = Path(run(["rustc", "--print", "sysroot"]).stdout.strip())
    context = engine.folder / "rust"
    context.mkdir()
    shutil.copytree(sysroot, context / "rust", symlinks=True, ignore=shutil.ignore_patterns("doc", "man"))
    # Of this machine: what it reaches crates.io through may have an authority of its own.
    shutil.copy(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"), context / "authorities.pem")
    (context / "Dockerfile").write_text(f"""FROM {DEBIAN}
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
COPY rust /usr/local/rust
COPY authorities.pem /etc/ssl/certs/ca-certificates.crt
ENV PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
""")
    build(engine, context, "--tag", RUST)
    shutil.rmtree(context)


def windrow_images(engine, checkout):
    """Builds all targets of the Dockerfile."""
    for target in TARGETS:
        build(engine, checkout, "--target", target, "--tag", f"windrow/{target}:{TAG}", "--build-arg", f"RUST_IMAGE={RUST}")


def dependencies_stay_built(engine, checkout):
    """Changes a source file and adds tests and pages: the layer with the built dependencies has to stay."""
    with open(checkout / "worker/src/persist.rs", "r+", encoding="utf-8") as source:
        source.seek(0, 2)
        source.write("// changed\n")
    for added in ["tests/tests/stack/added.rs", "tests/tests/added/main.rs", "tests/src/added.rs", "docs/added.md"]:
        (checkout / added).parent.mkdir(exist_ok=True)
        (checkout / added).write_text("")
    said = build(engine, checkout, "--target", "build", "--build-arg", f"RUST_IMAGE={RUST}")
    steps = re.findall(r"^Step \d+/\d+ : (.*)\n((?: --->.*\n)*)", said, re.MULTILINE)
    builds = [" ---> Using cache" in result for step, result in steps if step.startswith("RUN cargo auditable build")]
    if builds != [True]:
        raise Failed(f"a changed source file or an added test builds all dependencies again:\n{said[-4000:]}")
    if " ---> Using cache" in steps[-1][1]:
        raise Failed(f"a changed source file is not built:\n{said[-4000:]}")


def programs_list_their_dependencies(engine):
    """Looks into each program for the section that `cargo auditable` writes."""
    for target, program in TARGETS.items():
        container = engine.docker("create", f"windrow/{target}:{TAG}").stdout.strip()
        copied = engine.folder / program
        engine.docker("cp", f"{container}:/usr/local/bin/{program}", copied)
        engine.docker("rm", container)
        if ".dep-v0" not in run(["readelf", "--sections", "--wide", str(copied)]).stdout:
            raise Failed(f"{program} does not list its dependencies")
        copied.unlink()


def ids(engine):
    """Returns the ids of Windrow's images."""
    return {target: engine.docker("image", "inspect", "--format", "{{.Id}}", f"windrow/{target}:{TAG}").stdout for target in TARGETS}


def sizes(engine):
    """Returns the sizes of Windrow's images and of their base."""
    images = [*(f"windrow/{target}:{TAG}" for target in TARGETS), DEBIAN]
    in_bytes = {image: int(engine.docker("image", "inspect", "--format", "{{.Size}}", image).stdout) for image in images}
    return ", ".join(f"{image} {size / 1e6:.0f} MB" for image, size in in_bytes.items())
