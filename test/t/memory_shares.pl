# Where there are more keys than places in memory, they are shared out: nobody
# keeps more than its share while another waits, and no limit is forgotten for
# its own role's sake.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.max_tracked_keys = 40
apikey.flush_interval = '1h'
max_prepared_transactions = 2
});
$node->start;
$node->safe_psql('postgres', q{
	CREATE ROLE greedy; CREATE ROLE modest; CREATE ROLE third; CREATE DATABASE other});
for my $database ('postgres', 'other')
{
	$node->safe_psql($database, q{
		CREATE EXTENSION apikey CASCADE;
		CREATE TABLE key (n serial, owner text, text text);
		GRANT ALL ON key, key_n_seq TO PUBLIC});
}

# Makes keys with a limit of one in so long.
sub make_keys
{
	my ($owner, $count, $window, $database) = @_;
	$node->safe_psql($database // 'postgres', qq{SET ROLE $owner; INSERT INTO key (owner, text)
		SELECT '$owner', apikey_create('$owner-' || count(*) OVER () || '-' || i || '-' || txid_current(), rate_limit => 1, rate_window => '$window')
		FROM generate_series(1, $count) i});
}

# Asks for all keys of a role, and counts what is answered: "code|number".
sub ask
{
	my ($owner, $database) = @_;
	return join ' ', split /\n/, $node->safe_psql($database // 'postgres', qq{SELECT code, count(*) FROM
		(SELECT text FROM key WHERE owner = '$owner' ORDER BY n) k, apikey_verify(k.text, owner => '$owner') v GROUP BY 1 ORDER BY 1});
}
sub tracked { return $node->safe_psql($_[0] // 'postgres', 'SELECT tracked_keys FROM apikey_stats') }

# Alone, a role has all there is, and no more: its own limits stay.
make_keys('greedy', 60, '31 days');
is(ask('greedy'), 'unavailable|20 valid|40', 'a role alone has all the room');
is(ask('greedy'), 'rate_limited|40 unavailable|20', 'and cannot reset its limits by asking for others') for 1 .. 3;

# Another takes its share, not more.
make_keys('modest', 12, '31 days');
is(ask('modest'), 'valid|12', 'another one is served');
is(ask('modest'), 'rate_limited|12', 'and limited');
is(ask('greedy'), 'rate_limited|28 unavailable|32', 'the first has what is left');
make_keys('modest', 20, '31 days');
is(ask('modest'), 'rate_limited|12 unavailable|12 valid|8', 'up to the half');
is(ask('modest'), 'rate_limited|20 unavailable|12', 'where it has more keys than that');
is(ask('greedy'), 'rate_limited|20 unavailable|40', 'and nobody takes from who has no more');

# So does another database.
make_keys('third', 25, '31 days', 'other');
is(ask('third', 'other'), 'unavailable|5 valid|20', 'another database has the half');
is(tracked(), '20', 'the first the other');
is(ask('greedy') . ' ' . ask('modest'), 'rate_limited|10 unavailable|50 rate_limited|10 unavailable|22', 'in equal parts');
make_keys('third', 3, '31 days');
is(ask('third'), 'valid|3', 'a third role is served there');
is(tracked('other'), '20', 'not from the other database');

# What has ended holds no place: once it is committed, and not before.
my $ids = q{(SELECT apikey_id(text) AS id FROM key WHERE owner = 'third')};
$node->safe_psql('postgres', "BEGIN; SELECT apikey_revoke(id) FROM $ids k; ROLLBACK");
$node->safe_psql('postgres', "BEGIN; SAVEPOINT s; SELECT apikey_revoke(id) FROM $ids k; ROLLBACK TO s; COMMIT");
is(tracked(), '20', 'keys that were not revoked after all keep theirs');
is(ask('third'), 'rate_limited|3', 'and their limits');
$node->safe_psql('postgres', "BEGIN; SAVEPOINT s; SELECT apikey_delete(id, (SELECT name FROM apikeys a WHERE a.id = k.id)) FROM $ids k; RELEASE s; COMMIT");
is(tracked(), '17', 'deleted ones have none');
$node->safe_psql('postgres', "SELECT apikey_revoke(apikey_id(text)) FROM key WHERE owner = 'greedy'");
$node->safe_psql('postgres', "ALTER SYSTEM SET apikey.flush_interval = '100ms'; SELECT pg_reload_conf()");
ok($node->poll_query_until('postgres', q{SELECT tracked_keys <= 10 FROM apikey_stats}), 'nor have revoked ones, once their uses are written');
is($node->safe_psql('postgres', q{SELECT sum(use_count) FROM apikey_usage u JOIN apikey_key k USING (id)
	WHERE owner = 'greedy'::regrole}) + $node->safe_psql('postgres', q{SELECT not_attributed FROM apikey_stats}) > 0, 1, 'which are');

# With the extension go all places of its database; without its commit none.
is($node->safe_psql('other', 'BEGIN; DROP EXTENSION apikey CASCADE; ROLLBACK; SELECT tracked_keys FROM apikey_stats'), '20', 'an extension that was not dropped');
is($node->safe_psql('other', 'BEGIN; SAVEPOINT s; DROP EXTENSION apikey CASCADE; ROLLBACK TO s; COMMIT; SELECT tracked_keys FROM apikey_stats'), '20', 'nor by a savepoint');
$node->safe_psql('other', 'DROP EXTENSION apikey');
is($node->safe_psql('other', 'CREATE EXTENSION apikey; SELECT tracked_keys FROM apikey_stats'), '0', 'one that was has left nothing');
$node->stop;

# Who holds up the longest is the last to go: nobody can have it forgotten.
my $order = PostgreSQL::Test::Cluster->new('order');
$order->init;
$order->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.max_tracked_keys = 40
apikey.flush_interval = '1h'
});
$order->start;
$order->safe_psql('postgres', q{CREATE EXTENSION apikey CASCADE; CREATE ROLE greedy; CREATE ROLE modest});
my $long = $order->safe_psql('postgres', q{SET ROLE greedy; SELECT apikey_create('long', rate_limit => 1, rate_window => '31 days')});
is($order->safe_psql('postgres', "SELECT code FROM apikey_verify('$long', owner => 'greedy')"), 'valid', 'a limit that holds for long is spent');
$order->safe_psql('postgres', q{SET ROLE greedy;
	SELECT apikey_check(apikey_create('short-' || i, rate_limit => 1, rate_window => '1 hour')) FROM generate_series(1, 39) i});
is($order->safe_psql('postgres', q{SET ROLE modest;
	SELECT count(*) FROM generate_series(1, 19) i WHERE apikey_check(apikey_create('other-' || i, rate_limit => 1, rate_window => '1 day'))}),
	'19', 'others take nearly half of the room');
is($order->safe_psql('postgres', "SELECT code FROM apikey_verify('$long', owner => 'greedy')"), 'rate_limited', 'and that limit holds on');

# A count of who has more than its share gives way to a limit of another role, and
# is not lost without a trace.
my $before = $order->safe_psql('postgres', q{SELECT not_attributed FROM apikey_stats});
$order->safe_psql('postgres', q{DROP EXTENSION apikey; CREATE EXTENSION apikey});
$order->safe_psql('postgres', q{SET ROLE greedy; SELECT apikey_check(apikey_create('count-' || i)) FROM generate_series(1, 40) i});
is($order->safe_psql('postgres', q{SET ROLE modest; SELECT apikey_check(apikey_create('limited', rate_limit => 1))}), 't', 'a limit among counts');
is($order->safe_psql('postgres', q{SELECT not_attributed FROM apikey_stats}), $before + 1, 'a count is not attributed');
is($order->safe_psql('postgres', q{SELECT sum(use_count) FROM apikeys}), '40', 'all the others are');

# What is counted has its share as limits have: of who has the most, and no more.
$order->safe_psql('postgres', q{DROP EXTENSION apikey; CREATE EXTENSION apikey; CREATE TABLE text (owner text, text text); GRANT ALL ON text TO PUBLIC});
sub spend_all
{
	my ($owner, $count) = @_;
	return $order->safe_psql('postgres', qq{SET ROLE $owner;
		INSERT INTO text SELECT '$owner', apikey_create('spent-' || txid_current() || '-' || i, rate_limit => 1, rate_window => '31 days') FROM generate_series(1, $count) i;
		SELECT string_agg(code || ' ' || n, ', ' ORDER BY code) FROM (SELECT code, count(*) AS n FROM text k, apikey_verify(k.text) WHERE k.owner = '$owner' GROUP BY 1) c});
}
sub not_attributed { return $order->safe_psql('postgres', q{SELECT not_attributed FROM apikey_stats}) }
is(spend_all('greedy', 40), 'valid 40', 'limits of one role fill memory');
$order->safe_psql('postgres', q{SELECT apikey_flush()});
$before = not_attributed();
my $counted = $order->safe_psql('postgres', q{SET ROLE modest; SELECT apikey_create('counted')});
is($order->safe_psql('postgres', "SET ROLE modest; SELECT string_agg(code, ' ') FROM generate_series(1, 3) i, apikey_verify('$counted' || repeat('', i))"), 'valid valid valid', 'another has a key verified');
is($order->safe_psql('postgres', "SELECT code FROM apikey_verify('$counted', owner => 'greedy')"), 'wrong_owner', 'and refused');
is(not_attributed(), $before, 'nothing of that is lost');
$order->safe_psql('postgres', q{SELECT apikey_flush()});
is($order->safe_psql('postgres', q{SELECT use_count || ' ' || denied_count FROM apikeys WHERE name = 'counted'}), '3 1', 'all of it counts');
is($order->safe_psql('postgres', q{SELECT count(*) FROM apikey_events WHERE event = 'denied' AND key_name = 'counted'}), '1', 'and the refusal is told of');
is(spend_all('modest', 20), 'valid 20', 'it takes its share');
my $refused = $order->safe_psql('postgres', q{SET ROLE greedy; SELECT string_agg(code || ' ' || n, ', ' ORDER BY code) FROM (SELECT code, count(*) AS n FROM text k, apikey_verify(k.text) WHERE k.owner = 'greedy' GROUP BY 1) c});
is($refused, 'rate_limited 20, unavailable 20', 'and the first has no more than that');
is($order->safe_psql('postgres', q{SET ROLE greedy; SELECT count(*) FROM generate_series(1, 5) i WHERE apikey_check(apikey_create('more-' || i))}), '5', 'whose other keys are verified');
is(not_attributed(), $before + 25, 'and not counted');
is($order->safe_psql('postgres', q{SET ROLE modest; SELECT string_agg(DISTINCT code, ' ') FROM text k, apikey_verify(k.text) WHERE k.owner = 'modest'}), 'rate_limited', 'nor at the cost of who has its share');
$order->stop;

# Whose share it is: not that of whoever is handed keys, or is the first to spend
# of a limit that others have set.
my $whose = PostgreSQL::Test::Cluster->new('whose');
$whose->init;
$whose->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.max_tracked_keys = 40
apikey.flush_interval = '1h'
});
$whose->start;
$whose->safe_psql('postgres', q{
	CREATE EXTENSION apikey CASCADE; CREATE ROLE pusher; CREATE ROLE victim; CREATE ROLE third;
	CREATE TABLE key (n serial, what text, text text); GRANT ALL ON key, key_n_seq TO PUBLIC;
	SELECT apikey_grant('organizations', 'pusher');
	SET ROLE pusher; SELECT apikey_organization_create('acme'); SELECT apikey_project_create('acme/p'); SELECT apikey_member_add('acme/p', 'victim', 'developer')});
sub make { my ($role, $what, $count, $more) = @_; $whose->safe_psql('postgres', "SET ROLE $role; INSERT INTO key (what, text) SELECT '$what', apikey_create('$what-' || i, rate_limit => 1, $more) FROM generate_series(1, $count) i") }
sub answers { my ($role, $what, $more) = @_; return join ' ', split /\n/, $whose->safe_psql('postgres', "SET ROLE $role; SELECT v.code, count(*) FROM (SELECT text FROM key WHERE what = '$what' ORDER BY n) k, apikey_verify(text$more) v GROUP BY 1 ORDER BY 1") }
make('victim', 'own', 5, "rate_window => '1 day'");
is(answers('victim', 'own', ''), 'valid|5', 'five limits are spent');
make('pusher', 'handed', 60, "rate_window => '31 days', project => 'acme/p'");
$whose->safe_psql('postgres', q{SET ROLE pusher; SELECT apikey_transfer(apikey_id(text), 'victim') FROM key WHERE what = 'handed'});
like(answers('pusher', 'handed', ", project => 'acme'"), qr/^unavailable\|2\d valid\|3\d$/, 'who hands keys to another uses up the room with them');
make('pusher', 'more', 40, "rate_window => '31 days'");
is(answers('pusher', 'more', ''), 'unavailable|40', 'and gets no more of it for keys of its own');
make('victim', 'new', 5, "rate_window => '1 day'");
is(answers('victim', 'new', ''), 'valid|5', 'the other is served, as whoever has its share');
is(answers('victim', 'own', '') . ' ' . answers('victim', 'new', ''), 'rate_limited|5 rate_limited|5', 'and its limits hold');
$whose->restart;
make('victim', 'newer', 5, "rate_window => '1 day'");
is(answers('victim', 'newer', '') . ' ' . answers('victim', 'own', ''), 'valid|5 rate_limited|5', 'after a restart, too');
is(answers('victim', 'handed', ", project => 'acme', owner => 'pusher'"), 'wrong_owner|60', 'the keys are still those of whom they were handed to');

# A limit that others have set is not forgotten for who has asked for more.
$whose->safe_psql('postgres', q{DROP EXTENSION apikey; CREATE EXTENSION apikey; TRUNCATE key; SELECT apikey_grant('organizations', 'pusher');
	SET ROLE pusher; SELECT apikey_organization_create('acme'); SELECT apikey_project_create('acme/p'); SELECT apikey_member_add('acme/p', 'victim', 'admin');
	SELECT apikey_limit_set('requests', 1, '1 hour', path => 'acme')});
$whose->safe_psql('postgres', q{SET ROLE victim; INSERT INTO key (what, text) SELECT 'first', apikey_create('first', 'acme/p')});
is(answers('victim', 'first', ", project => 'acme'"), 'valid|1', "an organization's limit is spent by a member's key");
make('victim', 'own', 40, "rate_window => '31 days'");
answers('victim', 'own', '');
make('third', 'others', 15, "rate_window => '31 days'");
is(answers('third', 'others', ''), 'valid|15', 'which then has many limits, and gives room to others');
is(answers('victim', 'first', ", project => 'acme'"), 'rate_limited|1', "but not that of the organization's");
$whose->stop;

# A standby that is full: nothing can be flushed, and all goes on.
$node->start;
$node->safe_psql('postgres', q{
	DROP EXTENSION apikey; CREATE EXTENSION apikey; TRUNCATE key});
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
make_keys('greedy', 200, '1 second');
$node->wait_for_catchup($standby);
my $sql = q{SELECT code, count(*) FROM (SELECT text FROM key ORDER BY n OFFSET %d LIMIT 30) k, apikey_verify(k.text, owner => 'greedy') v GROUP BY 1};
for my $i (0 .. 5)
{
	is($standby->safe_psql('postgres', sprintf $sql, $i * 30), 'valid|30', "a full standby verifies limited keys, $i");
	$standby->safe_psql('postgres', 'SELECT pg_sleep(1.1)');
}
is($standby->safe_psql('postgres', q{SELECT not_attributed + (SELECT sum(use_count) FROM apikeys) FROM apikey_stats}),
	'180', 'each use is counted, of a key or not attributed');
$standby->stop;
$standby->start;
is($standby->safe_psql('postgres', sprintf $sql, 170), 'valid|30', 'after a restart, too');
$standby->stop;
$node->stop;
done_testing();
