# The runtime in a container: non-root, and made for a read-only root file system.
#
#     docker build --tag medseg .
#     docker run --rm --read-only --tmpfs /tmp --network none --user "$(id -u):$(id -g)" \
#         -v "$PWD/images:/in:ro" -v "$PWD/results:/out" medseg /in/nodule.png --out /out/nodule
#
# What is downloaded is checked by the hashes in locks/. /opt/medseg/sbom.cdx.json lists what is installed in /opt/medseg.
# /tmp holds the cache; mount a volume at /cache and set XDG_CACHE_HOME=/cache to keep it between runs.
# The node, which listens to a network and needs a folder that lasts; examples/pacs/compose.yml runs it beside a PACS:
#
#     docker build --tag medseg-node --target node --build-arg LOCK=node .
#
# Podman and buildah: build with `--format docker`, or the image has no health check.

ARG BASE=python:3.11-slim

FROM ${BASE} AS build
ARG LOCK=runtime
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY . .
RUN python3 -m venv /opt/build && /opt/build/bin/pip install --require-hashes --no-deps --requirement locks/tools.txt
RUN /opt/build/bin/python -m build --wheel --no-isolation --outdir /dist
# /opt/medseg gets no pip of its own. The wheel comes from here and never from an index.
RUN python3 -m venv --without-pip /opt/medseg \
    && /opt/build/bin/pip --python /opt/medseg/bin/python install --require-hashes --no-deps --requirement locks/${LOCK}.txt \
    && /opt/build/bin/pip --python /opt/medseg/bin/python install --no-index --no-deps /dist/*.whl
RUN version=$(/opt/medseg/bin/python -c "import medseg_runtime; print(medseg_runtime.__version__)") \
    && sed "s/^dynamic = .*/version = \"$version\"/" pyproject.toml >/dist/pyproject.toml \
    && /opt/build/bin/cyclonedx-py environment --pyproject /dist/pyproject.toml --output-reproducible \
        --output-file /opt/medseg/sbom.cdx.json /opt/medseg/bin/python

FROM ${BASE} AS base
LABEL org.opencontainers.image.title="MedSegLatDiff" \
      org.opencontainers.image.description="Many plausible segmentations of one medical image. Research software, not a medical device." \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/medseg /opt/medseg
ENV PATH="/opt/medseg/bin:$PATH" XDG_CACHE_HOME=/tmp PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
USER 10001:10001

FROM base AS node
USER root
RUN mkdir -p /var/lib/medseg/node-state && chown 10001:10001 /var/lib/medseg/node-state
USER 10001:10001
HEALTHCHECK --interval=60s --timeout=30s --start-period=60s CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8180/health/ready')"]
ENTRYPOINT ["medseg-node"]
CMD ["--help"]

FROM base
HEALTHCHECK --interval=60s --timeout=30s --start-period=30s CMD ["medseg-doctor"]
ENTRYPOINT ["medseg-infer"]
CMD ["--help"]
