# The extension in a server's image, preloaded:
#   docker build -t postgres-apikey .
#   docker build --build-arg BASE=postgres:18 -t postgres-apikey .
# or on a bare Debian with its own server, which has no entry point:
#   docker build --build-arg BASE=debian:12 --build-arg PG_MAJOR=15 -t debian-apikey .
ARG BASE=postgres:17

FROM ${BASE} AS server
# postgres:NN says it itself.
ARG PG_MAJOR
RUN set -eu; \
	[ ! -x "/usr/lib/postgresql/$PG_MAJOR/bin/postgres" ] || exit 0; \
	mkdir -p /etc/postgresql-common; \
	echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf; \
	apt-get update; \
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "postgresql-$PG_MAJOR"; \
	rm -rf /var/lib/apt/lists/*

# The compiler stays here.
FROM server AS build
ARG PG_MAJOR
RUN set -eu; \
	apt-get update; \
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
		gcc libc6-dev libpq-dev libssl-dev make "postgresql-server-dev-$PG_MAJOR"
COPY . /src
RUN set -eu; \
	make -s -C /src PG_CONFIG="/usr/lib/postgresql/$PG_MAJOR/bin/pg_config" with_llvm=no; \
	make -s -C /src PG_CONFIG="/usr/lib/postgresql/$PG_MAJOR/bin/pg_config" with_llvm=no DESTDIR=/out install; \
	install -D -m 644 /src/LICENSE /out/usr/share/doc/apikey/copyright

FROM server
ARG PG_MAJOR
ENV PATH=$PATH:/usr/lib/postgresql/$PG_MAJOR/bin
COPY --from=build /out/ /
CMD ["postgres", "-c", "shared_preload_libraries=apikey"]
