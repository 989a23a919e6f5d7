# The service with its bundled checkpoints; nothing is downloaded when it runs.
#
#   docker build -t agiqa .                                  torch from PyPI, with CUDA
#   docker build -t agiqa:cpu --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu .
#
# A package index of your own: --build-arg PIP_INDEX_URL=..., or, if it takes a password,
# --secret id=pip.conf,src=pip.conf, which leaves no trace in the image.
ARG BASE_IMAGE=python:3.12-slim-bookworm

# The list of dependencies by itself (those of the whole agiqa score among them), so that nothing else in pyproject.toml (a new version, say) has
# them installed anew.
FROM ${BASE_IMAGE} AS dependencies
COPY pyproject.toml .
RUN python3 -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*p["dependencies"], *p["optional-dependencies"]["score"], sep="\n")' \
    > dependencies.txt

FROM ${BASE_IMAGE} AS builder
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/venv
WORKDIR /src

# torch and torchvision from one index, since their binaries must match. Without dependencies: those
# come from PyPI below, an index of torch has only some versions of them.
COPY constraints.txt ./
ARG TORCH_INDEX
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    grep -E '^(torch|torchvision)==' constraints.txt > torch.txt \
    && pip install --no-deps ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} --requirement torch.txt
COPY --from=dependencies dependencies.txt ./
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    pip install --constraint constraints.txt --requirement dependencies.txt

# Our own packages go to a folder, and so to a layer, of their own: a new release of ours leaves the
# gigabytes of the dependencies' layer as they are.
COPY pyproject.toml README.md LICENSE NOTICE agiqa_client.py ./
COPY app app
COPY model model
COPY reporting reporting
COPY training training
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    pip install --no-deps --prefix /opt/agiqa .

FROM ${BASE_IMAGE}
# The cache takes backbones that a checkpoint of yours names; the bundled ones need none.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin agiqa \
    && install --directory --owner agiqa --group agiqa /home/agiqa /home/agiqa/.cache
COPY --from=builder /opt/venv /opt/venv
COPY --from=builder /opt/agiqa /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 AGIQA_HOST=0.0.0.0
WORKDIR /home/agiqa
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
EXPOSE 8000
# Liveness, not readiness: a service that is loading or full must not be killed for it. No proxy, in
# case the container has one.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:' + os.environ.get('AGIQA_PORT', '8000') + '/livez', timeout=2)"]
ENTRYPOINT ["agiqa"]
CMD ["serve"]
