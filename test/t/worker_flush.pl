# A flush of many keys takes many steps, and has ended after the last: what was
# counted before one has ended is in the table when the next has.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '100ms'
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION apikey CASCADE');
$node->safe_psql('postgres', q{CREATE TABLE many AS SELECT apikey_create('many-' || n) AS key FROM generate_series(1, 3000) n});
$node->safe_psql('postgres', q{
	DO $$
	DECLARE
		seen timestamptz;
		ended timestamptz;
	BEGIN
		PERFORM apikey_check(key) FROM many;
		seen := clock_timestamp();
		FOR n IN 1 .. 2 LOOP
			PERFORM apikey_check(key) FROM (SELECT key FROM many LIMIT 1) one;
			LOOP
				SELECT last_flush_at INTO ended FROM apikey_stats;
				EXIT WHEN ended > seen;
				ASSERT clock_timestamp() < seen + interval '3 minutes', 'no flush ends';
			END LOOP;
			seen := ended;
		END LOOP;
		CREATE TABLE flushed AS SELECT count(*) AS keys FROM apikey_usage WHERE id IN (SELECT apikey_id(key) FROM many);
	END $$});
is($node->safe_psql('postgres', 'SELECT keys FROM flushed'), '3000', 'a flush has ended when all of it is in the table');
$node->stop;
done_testing();
