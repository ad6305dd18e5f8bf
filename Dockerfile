# The command margin-stream and the Faust workers, without root.
FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/margin-stream
COPY requirements.lock ./
RUN /opt/margin-stream/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY margin_stream margin_stream
COPY replay replay
COPY agents agents
RUN /opt/margin-stream/bin/pip install --no-cache-dir --no-deps .

FROM python:3.13-slim
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin margin && mkdir /data && chown margin /data
COPY --from=build /opt/margin-stream /opt/margin-stream
ENV PATH=/opt/margin-stream/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
VOLUME /data
ENTRYPOINT ["margin-stream"]
CMD ["--help"]
