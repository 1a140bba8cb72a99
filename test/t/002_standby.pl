# A standby verifies, and refuses from the moment a revocation is replayed.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->start;
$primary->safe_psql('postgres', 'CREATE EXTENSION apikey CASCADE');
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

$primary->safe_psql('postgres', 'CREATE ROLE leaver LOGIN');
my $key = $primary->safe_psql('postgres', q{SELECT apikey_create('one')});
my $hers = $primary->safe_psql('postgres',
	q{SET ROLE leaver; SELECT apikey_create('hers')});
$primary->wait_for_catchup($standby);

# One session for all that follows, in one transaction that never ends.
my $session = $standby->background_psql('postgres');
$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
my $ask = sub {
	return $session->query_safe("SELECT code FROM apikey_verify('$_[0]')");
};
is($ask->($key), 'valid', 'a standby verifies');
is($ask->($hers), 'valid', 'the key of a role too');
is( $standby->safe_psql('postgres', qq{BEGIN; SELECT apikey_authenticate('$key') \\g /dev/null
		SELECT apikey_current_key() = apikey_id('$key')}), 't', 'and authenticates');

$primary->safe_psql('postgres', qq{SELECT apikey_disable(apikey_id('$key'))});
$primary->wait_for_catchup($standby);
is($ask->($key), 'disabled', 'a disabled key once it is replayed');
$primary->safe_psql('postgres', qq{SELECT apikey_revoke(apikey_id('$key'))});
$primary->safe_psql('postgres', 'DROP ROLE leaver');
$primary->wait_for_catchup($standby);
is($ask->($key), 'revoked', 'a revoked key once it is replayed');
is($ask->($hers), 'revoked', 'the key of a dropped role');
$session->query_safe('COMMIT');
$session->quit;

for my $call ("apikey_create('two')", "apikey_self_revoke('$key')",
	"apikey_revoke(apikey_id('$key'))", "apikey_delete(apikey_id('$key'), 'one')")
{
	my ($result, $stdout, $stderr) =
	  $standby->psql('postgres', "SELECT $call", on_error_stop => 0);
	my ($name) = $call =~ /^(\w+)/;
	like(
		$stderr,
		qr/cannot execute $name\(\) in a read-only transaction/,
		"$name on a standby");
}

$standby->promote;
is( $standby->safe_psql('postgres',
		q{SELECT code FROM apikey_verify(apikey_create('two'))}),
	'valid', 'a promoted standby makes keys');
$primary->stop;
$standby->stop;
done_testing();
