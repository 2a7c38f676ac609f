# RabbitMQ 4 from Debian, in place of Docker Hub's rabbitmq:…-management: the same user, folders, entry point and plugins.
FROM docker.io/library/debian:bookworm-slim
# trixie has 4.0; sid has the newest, but changes every day.
ARG SUITE=trixie
ENV DEBIAN_FRONTEND=noninteractive
# RUNLEVEL=1 keeps the package from starting a node. OpenSSL's program is in Docker Hub's image, too. Some of its files have
# moved to other packages since bookworm.
# hadolint ignore=DL3008
RUN groupadd --gid 999 --system rabbitmq \
 && useradd --uid 999 --system --home-dir /var/lib/rabbitmq --gid rabbitmq rabbitmq \
 && echo "deb http://deb.debian.org/debian $SUITE main" >/etc/apt/sources.list \
 && apt-get -o Acquire::Check-Valid-Until=false update \
 && RUNLEVEL=1 apt-get -o DPkg::Options::=--force-overwrite install --yes --no-install-recommends rabbitmq-server openssl \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb /var/lib/rabbitmq/* /var/lib/rabbitmq/.erlang.cookie \
 && mkdir -p /etc/rabbitmq/conf.d \
 && echo '[rabbitmq_management,rabbitmq_prometheus].' >/etc/rabbitmq/enabled_plugins \
 && echo 'log.console = true' >/etc/rabbitmq/conf.d/10-defaults.conf \
 && printf '#!/bin/sh\nexec "$@"\n' >/usr/local/bin/docker-entrypoint.sh \
 && chmod +x /usr/local/bin/docker-entrypoint.sh \
 && chown -R rabbitmq:rabbitmq /etc/rabbitmq /var/lib/rabbitmq /var/log/rabbitmq
# Debian's wrappers in /usr/sbin want to be root.
ENV PATH=/usr/lib/rabbitmq/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/var/lib/rabbitmq LANG=C.UTF-8
VOLUME /var/lib/rabbitmq
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["rabbitmq-server"]
