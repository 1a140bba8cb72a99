# What the role of a subscription needs on the publisher, and its owner on the
# subscriber, as docs/keys.md says.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($publisher, $subscriber) = map { PostgreSQL::Test::Cluster->new($_) } 'publisher', 'subscriber';
$publisher->init(allows_streaming => 'logical');
$subscriber->init;
$subscriber->append_conf('postgresql.conf', "wal_retrieve_retry_interval = '100ms'");
for my $node ($publisher, $subscriber)
{
	$node->start;
	$node->safe_psql('postgres', 'CREATE SCHEMA auth; CREATE EXTENSION apikey SCHEMA auth CASCADE; CREATE ROLE anna');
}
my $tables = join ', ', map { "auth.apikey_$_" } qw(key digest revocation import organization project member limit);
$publisher->safe_psql('postgres', qq{
	GRANT USAGE ON SCHEMA auth TO anna;
	CREATE PUBLICATION keys FOR TABLE $tables;
	CREATE ROLE replica LOGIN});
my $key = $publisher->safe_psql('postgres', q{SET ROLE anna; SELECT auth.apikey_create('one')});
my $conninfo = $publisher->connstr . ' dbname=postgres user=replica';

# As a superuser; returns the error.
my $create = sub {
	my (undef, undef, $error) = $subscriber->psql('postgres', "CREATE SUBSCRIPTION keys CONNECTION '$conninfo' PUBLICATION keys");
	return $error;
};
my $arrives = sub { $subscriber->wait_for_subscription_sync($publisher, 'keys') };
my $code = sub { return $subscriber->safe_psql('postgres', "SELECT code FROM auth.apikey_verify('$key', owner => 'anna')") };
my $again = sub { $subscriber->safe_psql('postgres', "DROP SUBSCRIPTION keys; TRUNCATE $tables") };

like($create->(), qr/permission denied|must be superuser or replication role/, 'it replicates');
$publisher->safe_psql('postgres', 'ALTER ROLE replica REPLICATION');
like($create->(), qr/NOTICE:  created replication slot "keys" on publisher/, 'with REPLICATION');
for (1 .. 1800) { last if slurp_file($subscriber->logfile) =~ /permission denied for/; select(undef, undef, undef, 0.1) }
like(slurp_file($subscriber->logfile), qr/ERROR: .*permission denied for/, 'it reads the tables');
$publisher->safe_psql('postgres', "GRANT USAGE ON SCHEMA auth TO replica; GRANT SELECT ON $tables TO replica");
$arrives->();
is($code->(), 'not_found', 'and all of their rows, which row security withholds');
$again->();
$publisher->safe_psql('postgres', 'ALTER ROLE replica BYPASSRLS');
$create->();
$arrives->();
is($code->(), 'valid', 'with BYPASSRLS keys arrive');
$publisher->safe_psql('postgres', "SELECT auth.apikey_revoke(auth.apikey_id('$key'))");
$publisher->wait_for_catchup('keys');
is($code->(), 'revoked', 'and revocations');
$again->();

# Its owner on the subscriber.
$subscriber->safe_psql('postgres', "CREATE ROLE owns LOGIN; GRANT CREATE ON DATABASE postgres TO owns");
if ($publisher->safe_psql('postgres', 'SHOW server_version_num') < 160000)
{
	my (undef, undef, $error) = $subscriber->psql('postgres', "SET ROLE owns; CREATE SUBSCRIPTION keys CONNECTION '$conninfo' PUBLICATION keys");
	like($error, qr/must be superuser/, 'is a superuser');
}
else
{
	$subscriber->safe_psql('postgres', qq{
		GRANT pg_create_subscription TO owns;
		ALTER ROLE owns BYPASSRLS;
		GRANT USAGE ON SCHEMA auth TO owns;
		GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON $tables TO owns});
	$create->();
	$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION keys SET (run_as_owner = true, password_required = false); ALTER SUBSCRIPTION keys OWNER TO owns');
	$arrives->();
	$key = $publisher->safe_psql('postgres', q{SET ROLE anna; SELECT auth.apikey_create('two')});
	$publisher->wait_for_catchup('keys');
	is($code->(), 'valid', 'is a role that may write the tables');
	$publisher->safe_psql('postgres', "SELECT auth.apikey_revoke(auth.apikey_id('$key'))");
	$publisher->wait_for_catchup('keys');
	is($code->(), 'revoked', 'and revocations arrive');
}
$subscriber->stop;
$publisher->stop;
done_testing();
