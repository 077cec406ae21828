# Two stages: one with a compiler that builds the wheel, one without that runs it.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim-bookworm AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
RUN python -m venv /opt/rowgate \
    && /opt/rowgate/bin/pip install --no-cache-dir --require-hashes -r requirements.lock \
    && pip install --no-cache-dir --require-hashes -r requirements-build.lock
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE ./
COPY proxy proxy
# The image is for production: a hot path that did not compile fails the build instead of being slow in silence.
RUN pip wheel --no-cache-dir --no-build-isolation --no-deps --wheel-dir /wheels . \
    && /opt/rowgate/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl \
    && /opt/rowgate/bin/rowgate --version | grep -F 'hot path: compiled'

FROM python:${PYTHON}-slim-bookworm
LABEL org.opencontainers.image.title="rowgate" \
      org.opencontainers.image.description="A PostgreSQL firewall that makes mass extraction impossible" \
      org.opencontainers.image.licenses="GPL-3.0-or-later"
RUN groupadd --system --gid 5432 rowgate \
    && useradd --system --uid 5432 --gid rowgate --home-dir /var/lib/rowgate --shell /usr/sbin/nologin rowgate \
    && install --directory --owner=rowgate --group=rowgate --mode=0700 /var/lib/rowgate
COPY --from=build /opt/rowgate /opt/rowgate
COPY policies/default.yaml /etc/rowgate/policy.yaml
ENV PATH=/opt/rowgate/bin:$PATH \
    PYTHONUNBUFFERED=1
# By number, so that a cluster can see that it is not root.
USER 5432:5432
WORKDIR /var/lib/rowgate
# Ledger, journal and events: losing this volume forgets what has been read, and so loosens every limit.
VOLUME ["/var/lib/rowgate"]
EXPOSE 6432
STOPSIGNAL SIGTERM
# A start-up as clients begin it: SSLRequest, which PostgreSQL's protocol answers with one byte before anything else.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import socket, sys; s = socket.create_connection(('127.0.0.1', 6432), 2); s.sendall(bytes.fromhex('0000000804d2162f')); sys.exit(s.recv(1) not in (b'N', b'S'))"]
# Give --upstream when you run it; options given there are added to these.
ENTRYPOINT ["rowgate", "serve", "--listen", "0.0.0.0:6432", "--policy", "/etc/rowgate/policy.yaml", "--state", "/var/lib/rowgate"]
