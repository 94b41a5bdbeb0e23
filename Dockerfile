# Small, not root, works on a read-only root file system:
#
#   docker build -t evmlb .
#   docker run --read-only -v ./config.yaml:/root/config.yaml:ro -p 8080:8080 -p 9101:9101 evmlb
#   docker run --rm evmlb classify "header not found"      (any command of evmlb)
#
# A compose file written for evm-loadbalancer runs unchanged: ./main --config /root/config.yaml is a command, too.

FROM python:3.13-slim AS build
WORKDIR /source
COPY setup.py pyproject.toml README.md MANIFEST.in ./
COPY constraints constraints
COPY evmlb evmlb
COPY twisted twisted
# the settled versions, of what the build itself needs too
ENV PIP_CONSTRAINT=/source/constraints/python.txt
RUN python -m venv /evmlb && /evmlb/bin/pip install --no-cache-dir . \
    # the plugin cache is written now, as the image's user may not write it later
    && /evmlb/bin/python -c "from twisted.plugin import IPlugin, getPlugins; list(getPlugins(IPlugin))"

FROM python:3.13-slim
COPY --from=build /evmlb /evmlb
COPY contrib/main /root/main
COPY contrib/entrypoint /usr/local/bin/entrypoint
# /root is where the original's files expect their configuration; nothing in it is secret
RUN useradd --system --uid 10001 --home-dir /root --shell /usr/sbin/nologin evmlb \
    && chmod 755 /root /root/main /usr/local/bin/entrypoint
ENV PATH=/evmlb/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /root
USER evmlb
EXPOSE 8080 9101
STOPSIGNAL SIGTERM
# asked where the configuration puts the admin port
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["evmlb", "health", "--config", "/root/config.yaml"]
ENTRYPOINT ["entrypoint"]
CMD ["run", "--config", "/root/config.yaml"]
