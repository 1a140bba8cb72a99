EXTENSION = apikey
EXTVERSION = $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" apikey.control)

MODULE_big = apikey
OBJS = src/apikey.o
OBJS += src/text/address.o src/text/digest.o src/text/find.o src/text/generate.o \
	src/text/json.o src/text/keytext.o src/text/piece.o src/text/redact.o src/text/scope.o \
	src/text/tokentext.o src/text/unicode.o
OBJS += src/store/cache.o src/store/catalog.o src/store/complaint.o src/store/detail.o \
	src/store/intact.o src/store/pgcrypto.o src/store/scan.o src/store/storage.o src/store/table.o
OBJS += src/memory/limiter.o src/memory/server_id.o src/memory/share.o src/memory/slot.o src/memory/slot_file.o \
	src/memory/stats.o
OBJS += src/secrets/pepper.o src/secrets/secret.o src/secrets/source.o src/secrets/vault.o
OBJS += src/access/administrator.o src/access/grant.o src/access/hold.o src/access/member.o \
	src/access/place.o src/access/principal.o src/access/rules.o
OBJS += src/events/event.o src/events/notify.o
OBJS += src/keys/apply.o src/keys/authority.o src/keys/deleted.o src/keys/expiry.o \
	src/keys/foreign.o src/keys/import.o src/keys/issue.o src/keys/key.o src/keys/live.o \
	src/keys/manage.o src/keys/pepper_count.o src/keys/purge.o src/keys/rehash.o \
	src/keys/retire.o src/keys/reveal.o src/keys/revocation.o src/keys/rotate.o src/keys/status.o
OBJS += src/credits/account.o src/credits/credit.o src/credits/lease.o
OBJS += src/limits/bound.o src/limits/charge.o src/limits/costs.o src/limits/limit.o \
	src/limits/mark.o src/limits/period.o src/limits/tally.o
OBJS += src/usage/denial.o src/usage/ended.o src/usage/history.o src/usage/touch.o \
	src/usage/usage.o
OBJS += src/verify/credential.o src/verify/demand.o src/verify/identity.o src/verify/request.o \
	src/verify/token.o src/verify/verify.o
OBJS += src/servers/server.o src/servers/server_beat.o src/servers/server_join.o \
	src/servers/server_lease.o src/servers/server_watch.o
OBJS += src/worker/worker.o
OBJS += src/sql/server_arguments.o src/sql/sql_servers.o
OBJS += src/sql/handdown.o src/sql/health.o src/sql/listing.o src/sql/redact_log.o \
	src/sql/replica.o src/sql/sql_identity.o src/sql/sql_keys.o src/sql/sql_limits.o \
	src/sql/sql_list_events.o src/sql/sql_list_history.o src/sql/sql_list_keys.o \
	src/sql/sql_list_limits.o src/sql/sql_list_places.o src/sql/sql_places.o src/sql/sql_scan.o \
	src/sql/sql_token.o src/sql/sql_triggers.o src/sql/sql_upkeep.o src/sql/sql_usage.o \
	src/sql/sql_verify.o src/sql/sql_views.o src/sql/viewer.o
# The first release, frozen, and a step from each release to the next.
DATA = sql/apikey--0.1.0.sql sql/apikey--0.1.0.control \
	$(wildcard sql/apikey--*--*.sql)
DATA_built = sql/apikey--$(EXTVERSION).sql
SHLIB_LINK = $(filter -lcrypto, $(LIBS))

# Tests: a temporary server for each kind, so none needs to be running.
REGRESS = install format texts keys verify whose names update errors owners subjects \
	places vouch bounds credits limits cache rotate purge reveal import identity matrix audit \
	contract_names contract_places contract_keys contract_verify contract_audit \
	grants privileges defaults hostile planted contexts callers intact \
	barrier uncounted listing health tokens scan holds servers citus uninstall
REGRESS_OPTS = --temp-instance=./tmp_check --temp-config=test/apikey.conf \
	--encoding=UTF8 --no-locale
ISOLATION = create_create revoke_verify update_update drop_role last_owner \
	max_keys member_verify rotate_verify rotate_rotate import_verify \
	import_import spend_spend spend_delete rename_schema rename_update \
	revoke_open settle_verify place_locks
ISOLATION_OPTS = --inputdir=test --outputdir=test/output \
	--temp-instance=./tmp_check_iso --temp-config=test/apikey.conf
TAP_TESTS = 1
PROVE_TESTS = test/t/*.pl
EXTRA_CLEAN = tmp_check tmp_check_iso results test/output log

# As system headers, so that warnings are about our own code.
PG_CPPFLAGS = -I$(srcdir)/src -isystem $(shell $(PG_CONFIG) --includedir-server) \
	-DAPIKEY_VERSION='"$(EXTVERSION)"'

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

sql/apikey--$(EXTVERSION).sql: sql/apikey.sql
	cp $< $@

# The archive for PGXN, of what is committed.
.PHONY: dist
dist:
	git archive --format=zip --prefix=$(EXTENSION)-$(EXTVERSION)/ \
		--output=$(EXTENSION)-$(EXTVERSION).zip HEAD

.PHONY: bench
bench:
	MAJOR=$(MAJORVERSION) test/bench/run
