EXTENSION = apikey
EXTVERSION = $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" apikey.control)

MODULE_big = apikey
OBJS = src/account.o src/address.o src/administrator.o src/apikey.o src/apply.o \
	src/authority.o src/cache.o src/catalog.o src/complaint.o src/credential.o \
	src/credit.o src/demand.o src/denial.o src/detail.o src/digest.o \
	src/ended.o src/event.o src/expiry.o src/foreign.o src/generate.o \
	src/grant.o src/identity.o src/import.o src/intact.o \
	src/issue.o src/json.o src/key.o src/keytext.o src/lease.o src/limiter.o \
	src/manage.o src/member.o src/notify.o src/pepper.o src/pgcrypto.o \
	src/place.o src/principal.o src/purge.o src/redact.o src/redact_log.o \
	src/rehash.o src/replica.o src/request.o src/retire.o src/reveal.o \
	src/live.o src/revocation.o \
	src/rotate.o src/rules.o src/scope.o src/secret.o src/share.o src/slot.o \
	src/slot_file.o src/sql_identity.o \
	src/sql_keys.o src/source.o src/sql_places.o src/sql_triggers.o src/sql_upkeep.o \
	src/sql_usage.o src/sql_verify.o src/sql_views.o src/stats.o src/status.o \
	src/storage.o src/table.o src/touch.o src/unicode.o src/usage.o \
	src/verify.o src/worker.o
OBJS += src/health.o src/pepper_count.o src/vault.o
OBJS += src/find.o src/hold.o src/sql_scan.o src/sql_token.o src/token.o src/tokentext.o
OBJS += src/handdown.o src/listing.o src/sql_list_events.o \
	src/sql_list_keys.o src/sql_list_places.o src/viewer.o
OBJS += src/bound.o src/charge.o src/costs.o src/deleted.o src/history.o src/limit.o \
	src/mark.o src/tally.o src/period.o src/sql_limits.o \
	src/sql_list_limits.o src/sql_list_history.o
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
	barrier listing health tokens scan holds citus uninstall
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
PG_CPPFLAGS = -isystem $(shell $(PG_CONFIG) --includedir-server) \
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
