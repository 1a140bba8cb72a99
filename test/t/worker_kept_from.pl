# Whoever may do nothing but connect keeps the worker from catalogs that it reads:
# it goes on without them, puts off for a minute what it cannot tell, and loses no
# notification.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/..";
use Kept;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1s'
apikey.notify = on
autovacuum = off
});
$node->start;
sub sql { return $node->safe_psql('postgres', join ';', @_) }
sql(q{CREATE EXTENSION apikey CASCADE; CREATE ROLE eve;
	SELECT apikey_organization_create('acme'), apikey_project_create('acme/pay');
	UPDATE apikey_projects SET max_idle = '1 hour'});

# What the worker has to do, of each kind that it does on no subscriber.
my $left = q{SELECT concat_ws(' ',
	(SELECT string_agg(name, ' ' ORDER BY name) FROM apikey_key WHERE revoked_at IS NULL AND name LIKE 'idle%'),
	(SELECT 'settle' FROM apikey_revocation),
	(SELECT 'lost' FROM apikey_server WHERE token IS NOT NULL AND lost_at IS NULL),
	(SELECT 'forfeit' FROM apikey_server_lease))};
sub owe
{
	my ($number) = @_;
	sql(qq{BEGIN;
	UPDATE apikey_key SET created_at = created_at - interval '1 day', enabled_at = NULL WHERE name = 'idle-$number';
	UPDATE apikey_project SET max_idle_at = now() - interval '1 day';
	INSERT INTO apikey_server (id, name, kind, version, token, epoch, sequence, first_seen_at, seen_at, last_report_at, uses)
		VALUES (gen_random_uuid(), 'gone-$number', 'standby', '0.2.0', gen_random_uuid(), 1, 1, now() - interval '1 day', now() - interval '1 day', now() + interval '1 hour', 0);
	INSERT INTO apikey_server_lease (id, server, account, number, granted, amount, generation, left_over, granted_at)
		VALUES (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 1, 1, 1, 1, 0, now() - interval '3 days');
	INSERT INTO apikey_revocation (id, key_id, revoked_at, revoked_by, removed, disabled) VALUES (gen_random_uuid(), gen_random_uuid(), now(), 'anna', false, false);
	UPDATE apikey_revocation SET restored = false;
	COMMIT});
}
sub key { return sql("SELECT apikey_create('$_[0]', 'acme/pay')") }

note 'A database without any subscription is no subscriber, whoever keeps it from what says of which tables.';
key("idle-$_") for 1, 2;
sql('SELECT apikey_flush()');
my @eve = keep_from($node, 'pg_subscription', 'pg_subscription_rel');
owe(1);
is(sql($left), 'idle-1 idle-2 settle lost forfeit', 'what is to be done');
sql('SELECT apikey_flush()');
is(sql(q{SELECT revoke_reason FROM apikey_key WHERE name = 'idle-1'}), 'idle', 'an idle key is revoked');
is(sql($left), 'idle-2', 'and all else is done; another key is not idle yet');
let_go(@eve);

note 'One with a subscription to something else may be: that is looked at again in a minute.';
sql(q{SET client_min_messages = error; CREATE SUBSCRIPTION elsewhere CONNECTION 'dbname=nowhere' PUBLICATION none WITH (connect = false)});
sql('SELECT apikey_flush()');
@eve = keep_from($node, 'pg_subscription_rel');
owe(2);
sql('SELECT apikey_flush()');
is(sql($left), 'idle-2 settle lost forfeit', 'nothing is done while it cannot be told');
let_go(@eve);
ok($node->poll_query_until('postgres', $left, ''), 'and all of it soon after, without a call') or diag sql($left);
sql(q{ALTER SUBSCRIPTION elsewhere SET (slot_name = NONE); DROP SUBSCRIPTION elsewhere});

note 'Notifications wait for the catalog of extensions.';
sub dropped { return sql("SELECT value FROM apikey_health() WHERE name = 'notices'") =~ /(\d+) dropped/ ? $1 : 'none' }
my $heard = '';
my $listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN apikey');
sub is_heard
{
	my ($name, $event) = @_;
	my $id = sql("SELECT max(id) FROM apikey_events WHERE key_name = '$name' AND event = '$event'");
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$heard .= $listener->query_safe('SELECT');
		last if $heard =~ /"event_id": $id\b/;
		select undef, undef, undef, 0.1;
	}
	like($heard, qr/"event_id": $id\b/, "that a key is $event is heard");
}
my $used = key('used');
is_heard('used', 'created');
my $session = $node->background_psql('postgres');
my $verify = "SELECT code FROM apikey_verify('$used', project => 'acme')";
is($session->query_safe($verify), 'valid', 'a key');
sql('SELECT apikey_flush()');
# The worker waits for a table, amid all that it does, and is held there; then there
# is something to notify, and somebody queues for the catalog.
my $id = sql(q{SELECT id FROM apikeys WHERE name = 'used'});
my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; LOCK TABLE apikey_usage');
my $waiting = q{SELECT min(pid) FROM pg_locks WHERE relation = 'apikey_usage'::regclass AND NOT granted};
my $worker;
for (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default)
{
	$session->query_safe($verify);
	$worker = $locker->query_safe($waiting);
	if ($worker)
	{
		kill 'STOP', $worker;
		last if $locker->query_safe($waiting) eq $worker;
		kill 'CONT', $worker;
	}
	select undef, undef, undef, 0.02;
}
ok($worker, 'the worker waits');
sql("SELECT apikey_disable('$id')");
@eve = keep_from($node, 'pg_extension');
my $log = -s $node->logfile;
kill 'CONT', $worker;
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $worker"), 'and is kept from the catalog');
like(slurp_file($node->logfile, $log), qr/apikey worker: notifying/, 'as it notifies');
$locker->query_safe('ROLLBACK');
let_go(@eve);
is_heard('used', 'disabled');
is(dropped(), 0, 'and none is dropped');

$_->quit for $locker, $session, $listener;
$node->stop;
done_testing();
