# A Hermes gateway that takes webhooks. Its home, /data, is a volume: config.yaml, .env with the keys of a model, sessions.
FROM python:3.11-slim-bookworm
# aiohttp is not among what hermes-agent asks for, and without it the gateway does not listen.
RUN pip install --no-cache-dir hermes-agent==0.19.0 aiohttp==3.14.1 && \
    install -d -m 700 -o 65532 -g 65532 /data
# As Talaria's, which writes the subscription into its home.
USER 65532:65532
ENV HERMES_HOME=/data HOME=/data WEBHOOK_ENABLED=true PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /data
VOLUME /data
EXPOSE 8644
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8644/health', timeout=4)"]
CMD ["hermes", "gateway", "run"]
