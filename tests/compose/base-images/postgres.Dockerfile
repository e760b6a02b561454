# Stands in for the official image of Postgres, as far as docker-compose.yml uses it.
ARG suite
FROM restante-debian:$suite
ARG major
# Without a cluster, which the package would make; a container makes its own in its volume.
RUN mkdir -p /etc/postgresql-common/createcluster.d \
    && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/none.conf \
    && apt-get update \
    && apt-get install -y --no-install-recommends "postgresql-$major" \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o postgres -g postgres /var/run/postgresql /var/lib/postgresql/data
ENV LANG=C.UTF-8 PGDATA=/var/lib/postgresql/data PATH=/usr/lib/postgresql/$major/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
COPY postgres-entrypoint /usr/local/bin/
VOLUME /var/lib/postgresql/data
# A fast shutdown, which waits for no client.
STOPSIGNAL SIGINT
ENTRYPOINT ["postgres-entrypoint"]
