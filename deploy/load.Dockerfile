FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package roost-loadgen && mkdir /report

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/roost-load /usr/local/bin/roost-load
COPY --from=build --chown=65532:65532 /report /report
USER 65532:65532
WORKDIR /report
EXPOSE 7070
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/roost-load"]
CMD ["worker"]
