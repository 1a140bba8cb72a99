# With the settings as they come a key that is used on a standby only shows its
# last use on the primary within 20 seconds, and is neither idle nor removed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/..";
use Fleet;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', "shared_preload_libraries = 'apikey'");
$primary->start;
sub sql { return $primary->safe_psql('postgres', @_) }
sql(q{CREATE EXTENSION apikey CASCADE; CREATE ROLE fleet LOGIN; SELECT apikey_grant('servers', 'fleet');
	SELECT apikey_organization_create('acme'); SELECT apikey_project_create('acme/pay')});
my ($used, $idle) = map { sql("SELECT apikey_create('$_', 'acme/pay')") } 'used', 'idle';
$primary->backup('backup');
my $standby = Fleet::member('standby', $primary, $primary);
is($standby->safe_psql('postgres', 'SELECT name FROM pg_settings WHERE name ~ $$^apikey\.$$ AND source <> $$default$$ ORDER BY name'),
	"apikey.fleet\napikey.primary_conninfo", 'nothing else is set');
ok($primary->poll_query_until('postgres', q{SELECT count(*) = 1 FROM apikey_servers WHERE role = 'standby'}), 'it has joined');

sub use_key { return $standby->safe_psql('postgres', "SELECT code FROM apikey_verify('$used', project => 'acme/pay', client_addr => '192.0.2.7')") }
for my $round (1 .. 2)
{
	sleep 4 * rand;
	my $at = $standby->safe_psql('postgres', 'SELECT now()');
	is(use_key(), 'valid', 'used on the standby');
	my $begun = time;
	$primary->poll_query_until('postgres', "SELECT last_used_at >= '$at' AND use_count = $round AND last_used_addr = '192.0.2.7' FROM apikeys WHERE name = 'used'") or die 'it is not told';
	my $took = time - $begun;
	cmp_ok($took, '<=', 20, sprintf 'after %.1f seconds the primary shows it', $took);
}

# Both have been there for long; one has just been used, there.
sql(q{BEGIN; UPDATE apikey_projects SET max_idle = '1 hour'; UPDATE apikey_project SET max_idle_at = now() - interval '1 day';
	UPDATE apikey_key SET created_at = created_at - interval '1 day'; COMMIT});
ok($primary->poll_query_until('postgres', q{SELECT revoke_reason = 'idle' FROM apikeys WHERE name = 'idle'}), 'a key that nobody uses is revoked');
is(sql(q{SELECT status FROM apikeys WHERE name = 'used'}), 'active', 'one that is used there is not');
is(sql(q{SELECT apikey_purge('0 seconds')}), 1, 'what has ended is removed');
is(sql('SELECT name FROM apikeys'), 'used', 'and it is not that');
$primary->wait_for_catchup($standby);
is(use_key(), 'valid', 'so it is used');
$standby->stop;
$primary->stop;
done_testing();
