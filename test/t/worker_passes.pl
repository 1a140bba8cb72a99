# What the worker goes through in steps it goes on with where the last worker has
# left: however short the time is that each has, what is late in the order comes.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'
autovacuum = off
});
$node->start;
sub sql { return $node->safe_psql('postgres', @_) }
sql('CREATE EXTENSION apikey CASCADE');

# Many projects with a max_idle, and in those that come last keys that are idle.
sql(q{SELECT apikey_organization_create('acme'), apikey_project_create('acme/first');
	INSERT INTO apikey_project (id, organization, path, created_at, members_can_view, revealable)
		SELECT CAST(lpad(to_hex(i), 32, '0') AS uuid), organization, 'acme/p' || i, created_at, false, false
		FROM apikey_project, generate_series(1, 10000) i;
	INSERT INTO apikey_project (id, organization, path, created_at, members_can_view, revealable)
		SELECT CAST('ffffffff-ffff-ffff-ffff-ffffffffff' || i AS uuid), organization, 'acme/last' || i, created_at, false, false
		FROM apikey_project, generate_series(10, 14) i WHERE path = 'acme/first';
	SELECT apikey_create('late', 'acme/last' || i) FROM generate_series(10, 14) i;
	BEGIN; UPDATE apikey_project SET max_idle = '1 hour', max_idle_at = now() - interval '1 day';
	UPDATE apikey_key SET created_at = now() - interval '1 day', enabled_at = NULL; COMMIT});

# A worker that comes is ended when it has been at it for a moment.
$node->append_conf('postgresql.conf', "apikey.flush_interval = '100ms'");
$node->reload;
sql(qq{CREATE TABLE ended (pid integer);
	DO \$\$
	DECLARE
		until timestamptz := clock_timestamp() + interval '$PostgreSQL::Test::Utils::timeout_default seconds';
		worker integer;
	BEGIN
		WHILE clock_timestamp() < until AND
			(SELECT count(*) < 5 FROM apikey_key WHERE revoke_reason = 'idle')
		LOOP
			PERFORM pg_stat_clear_snapshot();
			SELECT pid INTO worker FROM pg_stat_activity
				WHERE datname = current_database() AND query = 'apikey: revoking idle keys' AND state = 'active';
			IF FOUND THEN
				PERFORM pg_sleep(0.03);
				INSERT INTO ended SELECT worker WHERE pg_terminate_backend(worker);
				PERFORM pg_reload_conf();	-- it is called again at once
			END IF;
			COMMIT;
			PERFORM pg_sleep(0.005);
		END LOOP;
	END
	\$\$});
is(sql(q{SELECT count(*) FROM apikeys WHERE revoke_reason = 'idle'}), 5, 'keys of the last projects');
cmp_ok(sql('SELECT count(DISTINCT pid) FROM ended'), '>=', 2, 'though workers were ended on the way');
note sql('SELECT count(DISTINCT pid) FROM ended') . ' workers were';

# What has come to its end begins anew.
sql(q{SELECT apikey_create('again', 'acme/first'); BEGIN;
	UPDATE apikey_key SET created_at = now() - interval '1 day', enabled_at = NULL WHERE name = 'again';
	UPDATE apikey_projects SET max_idle = '2 hours' WHERE path = 'acme/first';
	UPDATE apikey_project SET max_idle_at = now() - interval '1 day'; COMMIT});
ok($node->poll_query_until('postgres', q{SELECT revoke_reason = 'idle' FROM apikeys WHERE name = 'again'}), 'a key of another, later');

# What fails in one place, for whatever reason, is left for a later pass.
sql(q{UPDATE apikey_project SET max_idle = NULL WHERE path LIKE 'acme/p%' AND path <> 'acme/p1';
	SELECT apikey_create('fails', 'acme/p1'); SELECT apikey_create('behind', 'acme/last14');
	CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE lock_not_available; END$$;
	CREATE TRIGGER fail BEFORE UPDATE ON apikey_key FOR EACH ROW WHEN (new.name = 'fails' AND new.revoked_at IS NOT NULL) EXECUTE FUNCTION fail();
	ALTER TABLE apikey_key ENABLE ALWAYS TRIGGER fail;
	UPDATE apikey_key SET created_at = now() - interval '1 day', enabled_at = NULL WHERE name IN ('fails', 'behind')});
my $offset = -s $node->logfile;
my $revoked = q{SELECT string_agg(name, ' ') FROM apikeys WHERE name IN ('fails', 'behind') AND revoke_reason = 'idle'};
for (1 .. 5)
{
	sql('SELECT apikey_flush()');
	last if sql($revoked) ne '';
}
is(sql($revoked), 'behind', 'a key behind one that cannot be revoked');
like(slurp_file($node->logfile, $offset), qr/ERROR:  lock_not_available/, 'of which the log tells');
sql('DROP TRIGGER fail ON apikey_key; SELECT apikey_flush()');
is(sql(q{SELECT revoke_reason FROM apikeys WHERE name = 'fails'}), 'idle', 'and that one when it can be');

# Who goes on changing keys that expire has no pass begin again and again: a flush ends.
sql(q{SELECT count(apikey_create('near-' || i, expires_at => now() + interval '1 day')) FROM generate_series(1, 6000) i; SELECT apikey_flush()});
my $changer = $node->background_psql('postgres');
$changer->query_until(qr/begun/, qq{\\echo begun
DO \$\$ DECLARE near uuid := (SELECT id FROM apikeys WHERE name = 'near-1'); BEGIN
	FOR i IN 1 .. 1000000 LOOP UPDATE apikeys SET description = i::text WHERE id = near; COMMIT; END LOOP; END \$\$;
});
ok($node->poll_query_until('postgres', q{SELECT description IS NOT NULL FROM apikeys WHERE name = 'near-1'}), 'a key that expires is changed again and again');
my ($rc) = $node->psql('postgres', q{SET statement_timeout = '10s'; SELECT apikey_flush()});
is($rc, 0, 'and a flush ends meanwhile');
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'DO $$ DECLARE near%'}), 1, 'while that goes on');
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'DO $$ DECLARE near%'});
eval { $changer->quit };

# Nor does who makes work of a kind faster than the worker does it: what a pass is to
# do is there when it begins.
$node->append_conf('postgresql.conf', "apikey.flush_interval = '1h'");
$node->reload;
sql(q{CREATE ROLE mallory; CREATE ROLE anna;
	SELECT apikey_grant('organizations', 'mallory'), apikey_grant('organizations', 'anna');
	SET ROLE mallory; SELECT apikey_organization_create('m'), apikey_project_create('m/idle'), apikey_project_create('m/free');
	UPDATE apikey_projects SET max_idle = '1 millisecond' WHERE path = 'm/idle';
	SET ROLE anna; SELECT apikey_organization_create('a'), apikey_project_create('a/later'), apikey_create('unused', 'a/later'); RESET ROLE;
	SELECT apikey_flush();
	CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.02); RETURN coalesce(new, old); END$$;
	CREATE TRIGGER slow BEFORE UPDATE ON apikey_key FOR EACH ROW WHEN (new.project IS NOT NULL AND new.revoke_reason = 'idle') EXECUTE FUNCTION slow();
	ALTER TABLE apikey_key ENABLE ALWAYS TRIGGER slow;
	CREATE TRIGGER slow BEFORE DELETE ON apikey_revocation FOR EACH ROW EXECUTE FUNCTION slow();
	ALTER TABLE apikey_revocation ENABLE ALWAYS TRIGGER slow;
	CREATE TRIGGER slow BEFORE INSERT ON apikey_event FOR EACH ROW WHEN (new.event = 'expiring') EXECUTE FUNCTION slow();
	ALTER TABLE apikey_event ENABLE ALWAYS TRIGGER slow});

# A flush while a role goes on with something, by a loop's body, once there is more of it
# than a step does.
sub flush_while
{
	my ($what, $body, $done) = @_;
	my $session = $node->background_psql('postgres');
	$session->query_until(qr/begun/, qq{\\echo begun
SET ROLE mallory; SET synchronous_commit = off;
DO \$\$ BEGIN FOR i IN 1 .. 1000000 LOOP $body; COMMIT; END LOOP; END \$\$;
});
	ok($node->poll_query_until('postgres', $done), $what);
	my ($rc) = $node->psql('postgres', q{SET statement_timeout = '20s'; SELECT apikey_flush()});
	is($rc, 0, "$what: a flush ends");
	is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'DO $$ BEGIN FOR%'}), 1, "$what: meanwhile");
	return $session;
}
sub end_session
{
	sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'DO $$ BEGIN FOR%'});
	eval { $_[0]->quit };
}
# What was left for the next pass has been asked for: no flush is waited for.
sub all_done
{
	my ($what, $done) = @_;
	$node->append_conf('postgresql.conf', "apikey.flush_interval = '100ms'");
	$node->reload;
	ok($node->poll_query_until('postgres', $done), "$what: all is done in the end");
	$node->append_conf('postgresql.conf', "apikey.flush_interval = '1h'");
	$node->reload;
}
sql(q{BEGIN; UPDATE apikey_projects SET max_idle = '1 hour' WHERE path = 'a/later';
	UPDATE apikey_project SET max_idle_at = now() - interval '1 day' WHERE path = 'a/later';
	UPDATE apikey_key SET created_at = now() - interval '1 day', enabled_at = NULL WHERE name = 'unused'; COMMIT});
my $session = flush_while('keys are made that are idle at once', q{PERFORM apikey_create('soon-' || i, 'm/idle'); COMMIT; PERFORM pg_sleep(0.005)},
	q{SELECT count(*) > 150 FROM apikey_key WHERE name LIKE 'soon-%'});
is(sql(q{SELECT revoke_reason FROM apikey_key WHERE name = 'unused'}), 'idle', 'and a key of a later project is revoked');
end_session($session);
all_done('idle keys', q{SELECT count(*) = 0 FROM apikey_key WHERE name LIKE 'soon-%' AND revoked_at IS NULL});

$session = flush_while('projects are made with such keys', q{PERFORM apikey_project_create('m/p' || i);
	UPDATE apikey_projects SET max_idle = '1 millisecond' WHERE path = 'm/p' || i; PERFORM apikey_create('single-' || i, 'm/p' || i); COMMIT; PERFORM pg_sleep(0.005)},
	q{SELECT count(*) > 10 FROM apikey_key WHERE name LIKE 'single-%'});
end_session($session);
all_done('idle keys of these', q{SELECT count(*) = 0 FROM apikey_key WHERE name LIKE 'single-%' AND revoked_at IS NULL});

$session = flush_while('keys are revoked beside their rows', q{PERFORM apikey_self_revoke(apikey_create('self-' || i, 'm/free')); COMMIT; PERFORM pg_sleep(0.005)},
	q{SELECT count(*) > 150 FROM apikey_revocation});
end_session($session);
all_done('revocations', q{SELECT count(*) = 0 FROM apikey_revocation});

sql(q{SET ROLE mallory; SELECT count(apikey_create('moved-' || i, 'm/free', expires_at => now() + interval '1 day')) FROM generate_series(1, 150) i});
$session = flush_while('keys are changed to expire a little later', q{UPDATE apikeys SET expires_at = expires_at + interval '1 s' WHERE name LIKE 'moved-%'; COMMIT; PERFORM pg_sleep(0.02)},
	q{SELECT count(*) = 150 FROM apikey_key WHERE name LIKE 'moved-%' AND updated_at IS NOT NULL});
end_session($session);
all_done('keys that expire', q{SELECT count(*) = 150 FROM apikey_key k WHERE name LIKE 'moved-%' AND
	EXISTS (SELECT FROM apikey_usage u WHERE u.id = k.id AND u.expiry_told = k.expires_at)});
sql("DROP TRIGGER slow ON $_") for qw(apikey_key apikey_revocation apikey_event);

# A flush is one way through each kind of work, in however many turns of the worker:
# it ends though another database always has something to flush, and one way takes
# longer than a turn.
$node->append_conf('postgresql.conf', "apikey.flush_interval = '1h'");
$node->reload;
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION apikey CASCADE');
sql(q{INSERT INTO apikey_project (id, organization, path, created_at, members_can_view, revealable)
		SELECT CAST(lpad(to_hex(i), 32, '0') AS uuid), organization, 'acme/p' || i, created_at, false, false
		FROM apikey_project, generate_series(10001, 50000) i WHERE path = 'acme/first';
	UPDATE apikey_project SET max_idle = '1 year', max_idle_at = now(); SELECT apikey_flush()});
sub quiet { return $node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'apikey worker' AND datname = 'postgres'}) }
sub commits { quiet(); return sql(q{SELECT xact_commit FROM pg_stat_database WHERE datname = 'postgres'}) }
my $before = commits();
sql('SELECT apikey_flush()');
cmp_ok(commits() - $before, '<', 10000, 'many projects in a step, where nothing is to be done in them');
my $flusher = $node->background_psql('other');
$flusher->query_until(qr/begun/, qq{\\echo begun
DO \$\$ BEGIN LOOP PERFORM apikey_flush(); END LOOP; END \$\$;
});
# A project that is changed again and again has a pass begin anew in each turn.
$changer = $node->background_psql('postgres');
$changer->query_until(qr/begun/, qq{\\echo begun
DO \$\$ BEGIN FOR i IN 1 .. 100000 LOOP UPDATE apikey_projects SET max_idle = make_interval(days => 300 + i % 9) WHERE path = 'acme/first'; COMMIT; PERFORM pg_sleep(0.02); END LOOP; END \$\$;
});
for my $what ('a flush ends while another database is flushed all the time', 'and the next one')
{
	($rc) = $node->psql('postgres', q{SET statement_timeout = '90s'; SELECT apikey_flush()});
	is($rc, 0, $what);
}
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'DO $$ BEGIN %'}), 2, 'which goes on');
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'DO $$ BEGIN %'});
eval { $_->quit } for $changer, $flusher;
sql('UPDATE apikey_project SET max_idle = NULL');

# Nor does a count of the keys of peppers begin anew with each turn.
sql('ALTER TABLE apikey_digest SET (fillfactor = 10)');
sql('VACUUM FULL apikey_digest');
sql('SELECT apikey_flush()');
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN');
# No worker is there that would count before the table is locked.
quiet();
sql('SELECT count(*) FROM apikey_health()');
$holder->query_safe('LOCK TABLE apikey_import');
my $scans = q{SELECT seq_scan FROM pg_stat_all_tables WHERE relname = 'apikey_digest'};
$before = sql($scans);
$offset = -s $node->logfile;
$node->append_conf('postgresql.conf', "apikey.flush_interval = '100ms'");
$node->reload;
my $failures = 0;
for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	$failures = () = slurp_file($node->logfile, $offset) =~ /apikey worker: counting the keys of peppers/g;
	last if $failures >= 5;
	select undef, undef, undef, 0.1;
}
cmp_ok($failures, '>=', 5, 'a table cannot be counted in some turns');
$holder->query_safe('ROLLBACK');
$holder->quit;
ok(quiet(), 'then it is');
my $counted = sql($scans) - $before;
cmp_ok($counted, '>=', 1, 'the one before it');
cmp_ok($counted, '<=', 4, 'once, in steps');

$node->stop;
done_testing();
