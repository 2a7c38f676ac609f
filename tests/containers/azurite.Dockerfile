# Azurite from npm, in place of the image of Microsoft's registry. The build context is target/azurite, where `make` installs it.
FROM docker.io/library/debian:bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends nodejs \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb \
 && ln -s /opt/azurite/node_modules/.bin/azurite /usr/local/bin/azurite
COPY node_modules /opt/azurite/node_modules
WORKDIR /opt/azurite
VOLUME /data
CMD ["azurite"]
