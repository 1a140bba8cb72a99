# Shared by quickstart and test/run: what the machine needs, and a private
# copy of the project that is built and installed into a place of its own.
# Expects TOP, the root of the project; source it under bash.

set -eu

say() { printf '%s\n' "$*"; }
die() { printf '%s\n' "$*" >&2; exit 1; }

root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

has_package() {
	[ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# A package at the version of one that is installed already, so that adding
# headers never moves (and restarts) the server that came before us.
at_version_of() {
	local version
	version=$(dpkg-query -W -f='${Version}' "$2" 2>/dev/null) || version=
	if [ -n "$version" ] && apt-cache show "$1=$version" >/dev/null 2>&1; then
		say "$1=$version"
	elif [ -n "$version" ] && pg_lsclusters -h 2>/dev/null | grep -q " online"; then
		die "$1 is not to be had for the installed $2 $version, and adding it would
upgrade and restart the PostgreSQL that runs here. Upgrade it yourself first:
  apt-get install --only-upgrade $2"
	else
		say "$1"
	fi
}

# The newest PostgreSQL that we support and this Debian has.
find_major() {
	local v
	for v in 18 17 15; do
		if apt-cache show "postgresql-$v" >/dev/null 2>&1 || has_package "postgresql-$v"; then
			say "$v"
			return
		fi
	done
}

# Sets MAJOR unless it is set, and installs what is missing of the packages
# that every use needs and those named.
need_packages() {
	local missing=() package
	if [ -z "${MAJOR:-}" ]; then
		MAJOR=$(find_major)
		if [ -z "$MAJOR" ]; then
			root apt-get update -qq
			MAJOR=$(find_major)
		fi
		[ -n "$MAJOR" ] || die "no package of PostgreSQL 15, 17, 18 or 19 found"
	fi
	for package in make gcc libc6-dev "postgresql-$MAJOR" "postgresql-server-dev-$MAJOR" "$@"; do
		has_package "$package" || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0

	say "Installing ${missing[*]}" >&2
	root apt-get update -qq
	set --
	for package in "${missing[@]}"; do
		case $package in
			postgresql-server-dev-*)
				set -- "$@" "$(at_version_of "$package" "postgresql-$MAJOR")" \
					"$(at_version_of "postgresql-client-$MAJOR" "postgresql-client-$MAJOR")" \
					"$(at_version_of libpq-dev libpq5)" ;;
			*) set -- "$@" "$package" ;;
		esac
	done
	root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
		--no-install-recommends "$@" >"$LOG" 2>&1 ||
		{ tail -n 20 "$LOG" >&2; die "apt-get could not install ${missing[*]}"; }
}

# A private directory, WORK, and LOG in it; both vanish with this process.
make_work() {
	WORK=$(realpath "$(mktemp -d "${TMPDIR:-/tmp}/apikey.XXXXXX")")
	chmod 755 "$WORK"
	LOG=$WORK/log
	: >"$LOG"
	trap 'clean_work' EXIT
	trap 'exit 130' INT TERM
}

clean_work() {
	end_running
	rm -rf "$WORK"
}

# Ends what runs in folders of WORK, whoever has begun it: servers, tests and what
# they have started.  A server that is asked to quit leaves no shared memory behind;
# what has not ended in five seconds is killed.  With the argument "root" it ends
# the processes of others too.
end_running() {
	local i pids signal=QUIT
	for i in {1..100}; do
		pids=$("$@" find /proc/[0-9]*/cwd -maxdepth 0 -lname "$WORK/*" 2>/dev/null | cut -d / -f 3)
		[ -n "$pids" ] || return 0
		[ "$i" -lt 50 ] || signal=KILL
		"$@" kill -$signal $pids 2>/dev/null || :
		sleep 0.1
	done
}

# Runs a command as somebody who may run a server: root becomes postgres.
unprivileged() {
	if [ "$(id -u)" = 0 ]; then
		runuser -u postgres -- env HOME="$WORK" "$@"
	else
		env HOME="$WORK" "$@"
	fi
}

# Copies the project as it stands into SRC, with nothing built.
make_copy() {
	BIN=/usr/lib/postgresql/$MAJOR/bin
	SRC=$WORK/src
	mkdir "$SRC"
	(cd "$TOP" && tar -cf - --exclude=./.git --exclude='./tmp_check*' --exclude=node_modules .) | tar -xf - -C "$SRC"
	[ "$(id -u)" != 0 ] || chown -R postgres: "$WORK"
	unprivileged make -s -C "$SRC" PG_CONFIG="$BIN/pg_config" clean >>"$LOG" 2>&1 || :
}

# What a server of ours trusts is whoever can connect: so none but its own user is to.
PRIVATE="unix_socket_permissions = 0700"

# Makes CONF, with which a server finds what is installed below WORK.
write_conf() {
	local path library share
	CONF=$WORK/server.conf
	library=$("$BIN/pg_config" --pkglibdir)
	share=$("$BIN/pg_config" --sharedir)
	# The first is PostgreSQL's own from 18 on, the second Debian's before.
	if [ "$MAJOR" -ge 18 ]; then
		path="extension_control_path = '$WORK/inst$share:\$system'"
	else
		path="extension_destdir = '$WORK/inst'"
	fi
	printf "%s\ndynamic_library_path = '%s'\n%s\n" "$path" "$WORK/inst$library:\$libdir" "$PRIVATE" |
		unprivileged tee "$CONF" >/dev/null
}

# Builds such a copy and installs it below WORK, for servers with CONF.  Extra
# arguments go to make.
build() {
	make_copy
	unprivileged make -s -j"$(nproc)" -C "$SRC" PG_CONFIG="$BIN/pg_config" with_llvm=no "$@" >>"$LOG" 2>&1 &&
		unprivileged make -s -C "$SRC" PG_CONFIG="$BIN/pg_config" with_llvm=no \
			DESTDIR="$WORK/inst" install >>"$LOG" 2>&1 ||
		{ cat "$LOG" >&2; die "the extension does not build"; }
	write_conf
}

# Starts a server in WORK that finds what build has installed; extra arguments
# are lines of its configuration.  It ends with this process.  By TCP, where it
# listens, anybody on the machine could connect: there it wants a password.
start_server() {
	unprivileged mkdir -m 700 "$WORK/data"
	unprivileged "$BIN/initdb" -D "$WORK/data" --auth-local=trust --auth-host=scram-sha-256 -E UTF8 --no-locale >>"$LOG" 2>&1 ||
		{ cat "$LOG" >&2; die "initdb failed"; }
	{
		cat "$CONF"
		echo "listen_addresses = ''"
		echo "unix_socket_directories = '$WORK'"
		echo "fsync = off"
		printf '%s\n' "$@"
	} | unprivileged tee -a "$WORK/data/postgresql.conf" >/dev/null
	unset PGHOST PGPORT PGUSER PGDATABASE PGOPTIONS PGSERVICE
	unprivileged "$BIN/pg_ctl" -D "$WORK/data" -w -l "$WORK/server.log" start >>"$LOG" 2>&1 ||
		{ cat "$WORK/server.log" >&2; die "the server did not start"; }
}

# psql on that server.
sql() {
	unprivileged "$BIN/psql" -X -q -v ON_ERROR_STOP=1 -h "$WORK" -d postgres "$@"
}
