EXTENSION = apikey
EXTVERSION = $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" apikey.control)

MODULE_big = apikey
# Each C file of each folder; see src/README.md.
OBJS = $(patsubst $(srcdir)/%.c,%.o,$(sort $(wildcard $(srcdir)/src/*.c $(srcdir)/src/*/*.c)))
# The first release, frozen, and a step from each release to the next.
DATA = sql/apikey--0.1.0.sql sql/apikey--0.1.0.control \
	$(wildcard sql/apikey--*--*.sql)
DATA_built = sql/apikey--$(EXTVERSION).sql
SHLIB_LINK = $(filter -lcrypto, $(LIBS))

# Tests: a temporary server for each kind, so none needs to be running.
REGRESS = install format texts keys verify whose names name_pattern update errors owners subjects \
	places vouch bounds credits limits cache rotate purge reveal import identity matrix audit \
	contract_names contract_places contract_keys contract_verify contract_audit \
	grants privileges defaults hostile planted contexts callers intact \
	indexes barrier uncounted listing health tokens scan holds members idle servers server_reports citus uninstall
REGRESS_OPTS = --temp-instance=./tmp_check --temp-config=test/apikey.conf \
	--encoding=UTF8 --no-locale
ISOLATION = create_create revoke_verify update_update drop_role last_owner \
	max_keys create_index member_verify rotate_verify rotate_rotate import_verify \
	import_import import_member spend_spend spend_delete rename_schema rename_update \
	revoke_open settle_verify place_locks held_key held_member serializable \
	removed_meanwhile \
	settle_held settle_meanwhile grant_grant held_turns reindex_read
ISOLATION_OPTS = --inputdir=test --outputdir=test/output \
	--temp-instance=./tmp_check_iso --temp-config=test/apikey.conf
TAP_TESTS = 1
PROVE_TESTS = test/t/*.pl
EXTRA_CLEAN = tmp_check tmp_check_iso results test/output log

# As system headers, so that warnings are about our own code.
PG_CPPFLAGS = -I$(srcdir)/src -isystem $(shell $(PG_CONFIG) --includedir-server) \
	-DAPIKEY_VERSION='"$(EXTVERSION)"'

# What speaks libpq is a library of its own, which no session loads.
WIRE = apikey_fleet
EXTRA_CLEAN += $(WIRE).o $(WIRE).so $(WIRE).dylib

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

sql/apikey--$(EXTVERSION).sql: sql/apikey.sql
	cp $< $@

all: $(WIRE)$(DLSUFFIX)
$(WIRE).o: src/fleet/libpq/wire.c src/fleet/wire.h
	$(CC) $(CFLAGS) $(CFLAGS_SL) $(CPPFLAGS) -isystem $(includedir) -c -o $@ $<
$(WIRE)$(DLSUFFIX): LDFLAGS_SL += $(libpq)
$(WIRE)$(DLSUFFIX): $(WIRE).o

.PHONY: install-wire uninstall-wire
install: install-wire
install-wire: $(WIRE)$(DLSUFFIX) installdirs
	$(INSTALL_SHLIB) $(WIRE)$(DLSUFFIX) '$(DESTDIR)$(pkglibdir)/'
uninstall: uninstall-wire
uninstall-wire:
	rm -f '$(DESTDIR)$(pkglibdir)/$(WIRE)$(DLSUFFIX)'

# The archive for PGXN, of what is committed.
.PHONY: dist
dist:
	git archive --format=zip --prefix=$(EXTENSION)-$(EXTVERSION)/ \
		--output=$(EXTENSION)-$(EXTVERSION).zip HEAD

.PHONY: bench
bench:
	MAJOR=$(MAJORVERSION) test/bench/run
