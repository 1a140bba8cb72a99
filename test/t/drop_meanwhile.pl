# While others drop the extension, and make it anew, each call is answered as if
# it was there, or was not: none fails by what it has found and lost.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'apikey'\nfsync = off\nautovacuum = off\nmax_locks_per_transaction = 512\ndeadlock_timeout = '50ms'");
$node->start;
sub sql { return $node->safe_psql('postgres', @_) }

sql(q{CREATE EXTENSION apikey CASCADE;
	CREATE TABLE answers (who text, call text, answer text);
	CREATE PROCEDURE repeat(who text, times int, VARIADIC calls text[]) LANGUAGE plpgsql AS $$
	DECLARE
		call text;
		answer text;
	BEGIN
		FOR i IN 0 .. times - 1 LOOP
			call := calls[1 + i % cardinality(calls)];
			BEGIN
				EXECUTE call INTO answer;
			EXCEPTION WHEN OTHERS THEN
				answer := SQLSTATE || ' ' || SQLERRM;
			END;
			INSERT INTO answers VALUES (who, call, answer);
			COMMIT;
		END LOOP;
	END $$});
my $key = sql("SELECT apikey_create('one')");

my $rounds = $ENV{DROP_MEANWHILE_ROUNDS} // 30;
my @sessions;
for my $of (
	[ 'verification', "SELECT code FROM apikey_verify('$key')", "SELECT code FROM apikey_verify('imported, or not')" ],
	[ 'change', "SELECT apikey_create(gen_random_uuid()::text) IS NOT NULL", "SELECT apikey_organization_create('o' || txid_current()) IS NOT NULL" ],
	[ 'change', "SELECT apikey_import('i' || txid_current(), 'sha256', encode(sha256(random()::text::bytea), 'hex')) IS NOT NULL", 'SELECT count(*) FROM apikeys', "SELECT apikey_grant('import', 'pg_monitor')" ])
{
	my ($who, @calls) = @$of;
	my $session = $node->background_psql('postgres');
	my $list = join ', ', map { s/'/''/gr =~ s/.*/'$&'/r } @calls;
	$session->query_until(qr/begun/, "\\echo begun\nCALL repeat('$who', 1000000, $list);\n");
	push @sessions, $session;
}
for (1 .. $rounds)
{
	my ($rc, $stdout, $stderr) = $node->psql('postgres', 'DROP EXTENSION apikey CASCADE');
	note($stderr) if $rc != 0;
	$node->psql('postgres', 'CREATE EXTENSION apikey CASCADE') if $rc == 0;
}
$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CALL repeat%'});
for my $session (@sessions) { eval { $session->quit } }

note(sql(q{SELECT who, count(*), CASE WHEN answer ~ '^[0-9A-Z]{5} ' THEN regexp_replace(answer, '[0-9]{3,}$', 'N') END FROM answers GROUP BY 1, 3 ORDER BY 1, 2 DESC LIMIT 60}));
# What a statement needs that calls a function, the server finds and loses itself:
# the function, its types, and the relation of the type that a verification has.
my $servers = q{answer ~ 'cache lookup failed for (function|type)|tuple concurrently'
	OR call LIKE '%FROM apikey_verify(%' AND answer ~ 'could not open relation with OID [0-9]+$'};
is(sql(qq{SELECT string_agg(DISTINCT call || ': ' || answer, '; ') FROM answers WHERE answer LIKE 'XX000%' AND NOT ($servers)}),
	'', 'no internal error');
# DROP EXTENSION locks what there is in an order of its own, and PostgreSQL may
# choose either side to end a deadlock with that.
is(sql(q{SELECT string_agg(DISTINCT answer, '; ') FROM answers WHERE who = 'verification' AND answer !~ '^(valid|not_found|malformed|unavailable|forbidden|42883 .*|40P01 .*)$' AND answer NOT LIKE 'XX000%'}),
	'', 'a verification raises nothing of ours');
$node->stop;
done_testing();
