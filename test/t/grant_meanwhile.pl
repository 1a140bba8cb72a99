# Who gives a privilege while others change the same object's by GRANT waits for
# them, and never fails by it.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'apikey'\nfsync = off\nautovacuum = off");
$node->start;
sub sql { return $node->safe_psql('postgres', @_) }

# What is caught ends with its own subtransaction; each call is committed.
sql(q{CREATE EXTENSION apikey CASCADE;
	CREATE ROLE anna; CREATE ROLE bob; CREATE ROLE carl; CREATE ROLE dora;
	CREATE TABLE failed (who text, state text, message text);
	CREATE PROCEDURE repeat(who text, times int, VARIADIC calls text[]) LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 0 .. times - 1 LOOP
			BEGIN
				EXECUTE calls[1 + i % cardinality(calls)];
			EXCEPTION WHEN OTHERS THEN
				INSERT INTO failed VALUES (who, SQLSTATE, SQLERRM);
			END;
			COMMIT;
		END LOOP;
	END $$});

my $times = $ENV{GRANT_MEANWHILE_TIMES} // 1500;
my @sessions;
for my $of (
	[ 'ours', map { "SELECT apikey_${_}('organizations', 'anna')" } 'grant', 'ungrant' ],
	[ 'ours', map { "SELECT apikey_${_}('stats', 'bob')" } 'grant', 'ungrant' ],
	[ 'theirs', 'GRANT EXECUTE ON FUNCTION apikey_organization_create TO carl', 'REVOKE EXECUTE ON FUNCTION apikey_organization_create FROM carl' ],
	[ 'theirs', 'GRANT SELECT ON apikey_stats, apikey_stats_codes TO dora', 'REVOKE SELECT ON apikey_stats, apikey_stats_codes FROM dora' ])
{
	my ($who, @calls) = @$of;
	my $session = $node->background_psql('postgres');
	my $list = join ', ', map { s/'/''/gr =~ s/.*/'$&'/r } @calls;
	$session->query_until(qr/begun/, "\\echo begun\nCALL repeat('$who', $times, $list);\n");
	push @sessions, $session;
}
$_->query('') for @sessions;
$_->quit for @sessions;

is(sql(q{SELECT string_agg(DISTINCT state || ' ' || message, '; ') FROM failed WHERE who = 'ours'}), '', 'nothing of ours fails');
note('of theirs: ' . sql(q{SELECT string_agg(DISTINCT state || ' ' || message, '; ') || ', ' || count(*) FROM failed WHERE who = 'theirs'}));
is(sql(q{SELECT has_function_privilege('anna', 'apikey_organization_create(text)', 'EXECUTE'), has_table_privilege('bob', 'apikey_stats', 'SELECT')}),
	'f|f', 'the last of it holds');
$node->stop;
done_testing();
