"""Runs windrow-setup as the VMs do, against a stand-in for metadata service, store and vault on this machine.

python3 azure/setup/test.py DIR    # DIR: what `validate.py --write DIR` has written
"""

import getpass
import hashlib
import http.server
import io
import json
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import threading
import unittest
import urllib.parse

SETUP = pathlib.Path(__file__).with_name("windrow-setup")
GIVEN = pathlib.Path(sys.argv.pop() if len(sys.argv) > 1 else ".")


def archive(*names):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as release:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = 4
            release.addfile(entry, io.BytesIO(b"data"))
    return out.getvalue()


class Azure(http.server.BaseHTTPRequestHandler):
    """Gives a token for each identity, and shows releases and secrets to whoever has a token for them."""

    def do_GET(self):
        world = self.server.world
        address = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(address.query))
        if address.path == "/metadata/identity/oauth2/token" and self.headers["Metadata"] == "true":
            return self.answer(
                200, json.dumps({"access_token": f"{query['client_id']} for {query['resource']}"}).encode()
            )
        world.asked.append((address.path, self.headers["Authorization"]))
        if world.refusals > 0:
            world.refusals -= 1
            return self.answer(403, b"the role has not taken effect yet")
        if address.path.startswith("/releases/") and world.release is not None:
            return self.answer(200, world.release.pop(0) if len(world.release) > 1 else world.release[0])
        if address.path.startswith("/secrets/") and world.vault:
            return self.answer(200, json.dumps({"value": f"{address.path} of {world.vault}"}).encode())
        return self.answer(503, b"")

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Setup(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.refusals, self.release, self.vault, self.asked = 0, [archive("./windrow-worker")], "vault-1", []
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Azure)
        server.world = self
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.url = f"http://127.0.0.1:{server.server_port}"

    def given(self, name):
        """The setup of a VM of the template, with its addresses, files and users replaced by ours."""
        setup = json.loads((GIVEN / name).read_text())
        for entry in setup["secrets"] + setup["settings"]:
            entry["file"] = str(self.folder / pathlib.PurePath(entry["file"]).name)
        for entry in setup["secrets"]:
            entry["owner"] = getpass.getuser()
            entry["url"] = self.url + urllib.parse.urlsplit(entry["url"]).path
        if setup["release"]:
            setup["release"]["url"] = self.url + urllib.parse.urlsplit(setup["release"]["url"]).path
            setup["release"]["sha256"] = hashlib.sha256(self.release[-1]).hexdigest()
        return setup

    def run_setup(self, setup, timeout=30):
        file = self.folder / "setup.json"
        file.write_text(json.dumps(setup))
        command = [
            sys.executable,
            SETUP,
            "--metadata",
            self.url,
            "--programs",
            self.folder / "windrow",
            "--give-up",
            "0.5",
            file,
        ]
        (self.folder / "windrow").mkdir(exist_ok=True)
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout)

    def test_a_worker_gets_its_binaries_its_secret_and_its_settings(self):
        setup = self.given("spot-workers.json")
        self.assertEqual(self.run_setup(setup).returncode, 0)
        program = self.folder / "windrow" / "bin" / "windrow-worker"
        self.assertEqual(program.read_bytes(), b"data")
        # The service's user is another than the one that installs.
        self.assertEqual([each.stat().st_mode & 0o777 for each in (program, program.resolve().parent)], [0o755, 0o755])
        secret = self.folder / "amqp-url-worker"
        self.assertEqual(secret.read_text(), "/secrets/amqp-url-worker of vault-1")
        self.assertEqual(secret.stat().st_mode & 0o777, 0o400)
        settings = (self.folder / "agent.env").read_text().splitlines()
        self.assertIn('WINDROW_STORE="az://windrow"', settings)
        self.assertIn(f'AZURE_CLIENT_ID="{setup["identities"]["worker"]}"', settings)

    def test_each_secret_is_fetched_by_its_own_identity(self):
        setup = self.given("spot-control.json")
        self.assertEqual(self.run_setup(setup).returncode, 0)
        asked = {path: token.split()[1] for path, token in self.asked}
        self.assertEqual(asked["/secrets/amqp-url-producer"], setup["identities"]["producer"])
        self.assertEqual(asked["/secrets/amqp-url-scaler"], setup["identities"]["scaler"])

    def test_nothing_is_fetched_where_the_image_has_the_binaries(self):
        self.assertEqual(self.run_setup(self.given("external-workers.json")).returncode, 0)
        self.assertEqual([path for path, _ in self.asked], ["/secrets/amqp-url-worker"])

    def test_a_role_that_takes_effect_late_is_waited_for(self):
        self.refusals = 2
        result = self.run_setup(self.given("spot-workers.json"))
        self.assertEqual(result.returncode, 0)
        self.assertIn("403", result.stderr)

    def test_another_release_than_the_expected_one_is_not_installed(self):
        self.release = [archive("./windrow-worker", "./other"), archive("./windrow-worker")]
        result = self.run_setup(self.given("spot-workers.json"))
        self.assertEqual(result.returncode, 0)
        self.assertIn("the release has the SHA-256", result.stderr)
        self.assertEqual([each.name for each in (self.folder / "windrow" / "bin").iterdir()], ["windrow-worker"])

    def test_an_entry_of_a_release_does_not_leave_its_folder(self):
        self.release = [archive("../../../../windrow-worker")]
        self.assertEqual(self.run_setup(self.given("spot-workers.json")).returncode, 0)
        self.assertEqual([each.name for each in (self.folder / "windrow" / "bin").iterdir()], ["windrow-worker"])

    def test_a_changed_secret_arrives_with_the_next_start_and_an_outage_of_the_vault_keeps_the_last(self):
        setup = self.given("spot-rabbitmq.json")
        for self.vault, expected in (("vault-1", "vault-1"), ("vault-2", "vault-2"), (None, "vault-2")):
            self.assertEqual(self.run_setup(setup).returncode, 0)
            self.assertEqual((self.folder / ".erlang.cookie").read_text(), f"/secrets/rabbitmq-cookie of {expected}")

    def test_a_first_start_without_the_vault_waits(self):
        self.vault = None
        with self.assertRaises(subprocess.TimeoutExpired):
            self.run_setup(self.given("spot-rabbitmq.json"), timeout=3)


if __name__ == "__main__":
    unittest.main()
