# The image that tests start, where the official one cannot be had: the same server at the same place.
FROM scratch
COPY nats-server /nats-server
# Makes the directory; there is no mkdir in here.
WORKDIR /data
EXPOSE 4222 6222 8222
ENTRYPOINT ["/nats-server"]
