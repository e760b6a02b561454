# Stands in for the official image of Rust: a Debian, a C compiler, and rustup with one toolchain.
ARG suite
FROM restante-debian:$suite
ARG toolchain
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
COPY rustup /usr/local/cargo/bin/rustup
COPY toolchain /usr/local/rustup/toolchains/$toolchain
RUN cd /usr/local/cargo/bin \
    && ln -s rustup cargo \
    && ln -s rustup rustc \
    && ln -s rustup rustdoc \
    && rustup default "$toolchain"
