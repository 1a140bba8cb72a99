# Shared by the benchmarks of verification: the floor and the client, where they
# run, and the table's lines.  Source it after contrib/lib.sh.

tell() { say "$*" >&2; }

# The floor, a library that the server loads, and the client.
build_tools() {
	unprivileged mkdir "$WORK/tools"
	unprivileged cp "$SRC/test/bench/floor.c" "$SRC/test/bench/client.c" "$WORK/tools/"
	printf 'MODULES = floor\nPG_CONFIG = %s\nPGXS := $(shell $(PG_CONFIG) --pgxs)\ninclude $(PGXS)\n' \
		"$BIN/pg_config" | unprivileged tee "$WORK/tools/Makefile" >/dev/null
	unprivileged make -s -C "$WORK/tools" with_llvm=no >>"$LOG" 2>&1 &&
		unprivileged gcc -O2 -Wall -I"$("$BIN/pg_config" --includedir)" "$WORK/tools/client.c" \
			-o "$WORK/tools/client" -L"$("$BIN/pg_config" --libdir)" -lpq >>"$LOG" 2>&1 ||
		{ cat "$LOG" >&2; die "the floor and the client do not build"; }
}

# Both libraries are loaded at the start, so that neither pays for it later.
start() {
	local quarter=$(awk '/^MemTotal/ {print int($2 / 1024 / 4) "MB"}' /proc/meminfo)
	start_server "shared_preload_libraries = 'apikey, $WORK/tools/floor'" \
		"shared_buffers = $quarter" "max_wal_size = 32GB" "maintenance_work_mem = 256MB" \
		"autovacuum = off" "checkpoint_timeout = 1h" "jit = off" "fsync = on" "$@"
	POSTMASTER=$(head -n 1 "$WORK/data/postmaster.pid")
}
# More keys than are tracked by default want room in shared memory, all used.
restart_with_room() {
	setting apikey.flush_interval 1h
	setting apikey.max_tracked_keys 2000000
	unprivileged "$BIN/pg_ctl" -D "$WORK/data" -w -m fast -l "$WORK/server.log" restart >>"$LOG" 2>&1 ||
		{ tail -n 20 "$WORK/server.log" >&2; die "the server did not restart"; }
	POSTMASTER=$(head -n 1 "$WORK/data/postmaster.pid")
}

# Sets a setting for all sessions.
setting() { sql -c "ALTER SYSTEM SET $1 = '$2'" -c "SELECT pg_reload_conf()" >/dev/null; }

# One client and the server process that it starts share a CPU: moving between
# two triples the figures and their noise.
on_cpu() { taskset -a -p -c "$1" "$POSTMASTER" >/dev/null; }
client() {
	local cpu=$1 database=$2 what=$3 amount=$4 statement=$5 keys=$6
	shift 6
	unprivileged env PGHOST="$WORK" PGUSER=bench PGDATABASE="$database" PGOPTIONS="${OPTIONS:-}" \
		taskset -c "$cpu" "$WORK/tools/client" "$what" "$amount" "$statement" "$@" <"$keys"
}

declare -A runs
note() {
	[ -n "$2" ] || { tail -n 20 "$LOG" "$WORK/server.log" >&2; die "no figure for $1"; }
	runs[$1]+=" $2"
}

rounds() {
	local round
	for round in $(seq "$ROUNDS"); do
		tell "$1, round $round of $ROUNDS"
		"${@:2}" "$round"
	done
}

# A line of the table: what, unit, goal, then the runs or two to divide.
grouped() { sed ':a; s/\([0-9]\)\([0-9]\{3\}\)\($\|,\)/\1,\2\3/; ta' <<<"$1"; }
result() {
	local values
	values=${runs[$4]# }
	case ${5:-} in
		'') ;;
		-*) values=$(pair "$4" "${5#-}" '$1 - $2') ;;
		*) values=$(pair "$4" "$5" '$1 / $2') ;;
	esac
	printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$(tr '\n' ' ' <<<"$values")"
}
pair() {
	paste <(tr ' ' '\n' <<<"${runs[$1]# }") <(tr ' ' '\n' <<<"${runs[$2]# }") | awk "{printf \"%.6f\n\", $3}"
}

# Of the server's largest mapping: huge ones where the system has some to give
# (vm.nr_hugepages).
page_size() {
	awk '/^Size:/ {size = $2} /^KernelPageSize:/ && size > most {most = size; page = $2} END {print page}' \
		"/proc/$POSTMASTER/smaps"
}
machine() {
	local library=$(ldd "$BIN/postgres" | awk '/libcrypto/ {print $3}')
	say "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) CPUs; PostgreSQL $("$BIN/postgres" --version | sed 's/^[^0-9]*//; s/ .*//'); $(grep -a -o -m 1 'OpenSSL [0-9][0-9.]*[a-z]* [0-9]* [A-Z][a-z]* [0-9]*' "$library" 2>/dev/null | head -n 1 || say "no OpenSSL"); $(date -u +%F)"
	say "Shared memory is in $(page_size) kB pages."
}
