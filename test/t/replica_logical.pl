# A logical subscriber verifies what the publisher issues, and its warm
# sessions notice at once what the apply worker changes.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $publisher = PostgreSQL::Test::Cluster->new('publisher');
$publisher->init(allows_streaming => 'logical');
$publisher->start;
my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init;
$subscriber->start;
$_->safe_psql('postgres', 'CREATE ROLE anna; CREATE EXTENSION apikey CASCADE')
  for $publisher, $subscriber;

$publisher->safe_psql('postgres', q{
	SELECT apikey_organization_create('acme');
	SELECT apikey_project_create('acme/pay');
	SELECT apikey_member_add('acme/pay', 'anna', 'admin');
	CREATE PUBLICATION keys FOR TABLE apikey_key, apikey_digest, apikey_revocation, apikey_import, apikey_organization, apikey_project, apikey_member});
my $key = $publisher->safe_psql('postgres',
	q{SET ROLE anna; SELECT apikey_create('one', 'acme/pay')});
my $conninfo = $publisher->connstr . ' dbname=postgres';
$subscriber->safe_psql('postgres',
	"CREATE SUBSCRIPTION keys CONNECTION '$conninfo' PUBLICATION keys");
$subscriber->wait_for_subscription_sync($publisher, 'keys');

my $session = $subscriber->background_psql('postgres');
my $ask = sub {
	$publisher->wait_for_catchup('keys');
	return $session->query_safe("SELECT code, role, project FROM apikey_verify('$key', project => 'acme/pay')");
};
is($ask->(), 'valid|admin|acme/pay', 'a subscriber verifies');
$publisher->safe_psql('postgres', q{SELECT apikey_member_add('acme/pay', 'anna', 'developer')});
is($ask->(), 'valid|developer|acme/pay', 'a demoted creator');
$publisher->safe_psql('postgres', q{SELECT apikey_member_remove('acme/pay', 'anna')});
is($ask->(), 'forbidden||acme/pay', 'a removed one');
$publisher->safe_psql('postgres', q{SELECT apikey_member_add('acme/pay', 'anna', 'admin')});
is($ask->(), 'valid|admin|acme/pay', 'one who is back');
$publisher->safe_psql('postgres', q{SELECT apikey_disable(id) FROM apikeys});
is($ask->(), 'disabled|admin|acme/pay', 'a disabled key');
$publisher->safe_psql('postgres', q{SELECT apikey_enable(id) FROM apikeys});
is($ask->(), 'valid|admin|acme/pay', 'an enabled key');
$publisher->safe_psql('postgres', q{SELECT apikey_revoke(id) FROM apikeys});
is($ask->(), 'revoked|admin|acme/pay', 'a revoked key');
my $imported = sub {
	$publisher->wait_for_catchup('keys');
	return $session->query_safe(q{SELECT code FROM apikey_verify('from elsewhere')});
};
is($imported->(), 'malformed', 'no imported key');
$publisher->safe_psql('postgres', q{SELECT apikey_import('old', 'md5', md5('from elsewhere'))});
is($imported->(), 'valid', 'an imported key');
$publisher->safe_psql('postgres', q{SELECT apikey_delete(id, name) FROM apikeys WHERE name = 'old'});
is($imported->(), 'malformed', 'none any more');
my $next = $publisher->safe_psql('postgres', q{SET ROLE anna; SELECT apikey_create('two', 'acme/pay')});
$key = $next;
is($ask->(), 'valid|admin|acme/pay', 'another key');
$key = $publisher->safe_psql('postgres', "SELECT apikey_rotate(apikey_id('$next'))");
is($ask->(), 'valid|admin|acme/pay', 'its successor');
($next, $key) = ($key, $next);
is($ask->(), 'revoked|admin|acme/pay', 'and itself');
$publisher->safe_psql('postgres', q{SELECT apikey_project_drop('acme/pay', 'acme/pay')});
is($ask->(), 'not_found||', 'a dropped project');
$session->quit;

# Idle keys: nobody knows here where they are used, and the publisher decides.
for my $server ($publisher, $subscriber)
{
	$server->append_conf('postgresql.conf', "shared_preload_libraries = 'apikey'\napikey.flush_interval = '1h'");
	$server->restart;
}
$publisher->safe_psql('postgres', q{SELECT apikey_project_create('acme/idle'); SELECT apikey_create('idle', 'acme/idle');
	UPDATE apikey_projects SET max_idle = '1 day';
	UPDATE apikey_project SET max_idle_at = max_idle_at - interval '9 days'; UPDATE apikey_key SET created_at = created_at - interval '9 days'});
$publisher->poll_query_until('postgres', q{SELECT state = 'streaming' FROM pg_stat_replication}) or die 'the subscriber is not back';
$publisher->wait_for_catchup('keys');
for my $server ($subscriber, $publisher)
{
	$server->safe_psql('postgres', 'SELECT apikey_flush()');
	is($server->safe_psql('postgres', q{SELECT status FROM apikeys WHERE name = 'idle'}), 'active', 'an idle key is not revoked by the ' . $server->name);
}

# What is revoked on a subscriber the publisher settles, but not where only other tables come by a subscription.
$publisher->safe_psql('postgres', q{CREATE TABLE goods (id int PRIMARY KEY); CREATE PUBLICATION goods FOR TABLE goods;
	GRANT SELECT ON goods TO PUBLIC; SELECT apikey_member_add('acme/idle', 'anna', 'admin')});
$publisher->wait_for_catchup('keys');
$subscriber->safe_psql('postgres', 'CREATE DATABASE other');
$subscriber->safe_psql('other', qq{CREATE EXTENSION apikey CASCADE; CREATE TABLE goods (id int PRIMARY KEY);
	SELECT apikey_organization_create('acme'), apikey_project_create('acme/idle'); SELECT apikey_member_add('acme/idle', 'anna', 'admin');
	SELECT apikey_create('idle', 'acme/idle');});
$subscriber->safe_psql('other', "CREATE SUBSCRIPTION goods CONNECTION '$conninfo' PUBLICATION goods");
for (['postgres', 1], ['other', 0])
{
	my ($database, $beside) = @$_;
	is($subscriber->safe_psql($database, q{SET ROLE anna; SELECT apikey_revoke(id) FROM apikeys WHERE name = 'idle'}), 't', "revoked in $database");
	$subscriber->safe_psql($database, 'SELECT apikey_flush()');
	is($subscriber->safe_psql($database, 'SELECT count(*) FROM apikey_revocation'), $beside, "what stands beside rows in $database");
}
$subscriber->safe_psql('other', 'DROP SUBSCRIPTION goods');
$subscriber->safe_psql('postgres', 'DELETE FROM apikey_revocation');

$subscriber->stop;
$publisher->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_replication}) or die 'the subscriber is still there';
$publisher->safe_psql('postgres', q{UPDATE apikey_project SET max_idle_at = max_idle_at - interval '9 days'; SELECT apikey_flush()});
is($publisher->safe_psql('postgres', q{SELECT revoke_reason FROM apikeys WHERE name = 'idle'}), 'idle', 'but by a publisher that is alone');

$publisher->stop;
done_testing();
