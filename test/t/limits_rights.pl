# Limits: who may set, change, add to and drop which, and what happens where
# sessions meet at one.
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
max_prepared_transactions = 5
});
$node->start;
sub sql { my ($role, @sql) = @_; return $node->safe_psql('postgres', "SET ROLE $role; " . join '; ', @sql) }

# The same roles as in sql/matrix.sql, and what each may.
my @roles = qw(org_owner org_admin org_dev owner admin dev creator in_group outsider auditor super);
$node->safe_psql('postgres', join ';', 'CREATE EXTENSION apikey CASCADE', (map { "CREATE ROLE $_" } grep { $_ ne 'in_group' } @roles),
	'CREATE ROLE "group"', 'CREATE ROLE in_group IN ROLE "group"', 'ALTER ROLE auditor BYPASSRLS', 'ALTER ROLE super SUPERUSER',
	'GRANT EXECUTE ON FUNCTION apikey_organization_create TO org_owner', 'SET ROLE org_owner', "SELECT apikey_organization_create('acme')",
	"SELECT apikey_project_create('acme/pay')", map { "SELECT apikey_member_add('$_->[0]', '$_->[1]', '$_->[2]')" }
	['acme', 'org_admin', 'admin'], ['acme', 'org_dev', 'developer'], ['acme/pay', 'owner', 'owner'], ['acme/pay', 'admin', 'admin'],
	['acme/pay', 'dev', 'developer'], ['acme/pay', 'creator', 'developer'], ['acme/pay', '"group"', 'admin']);
my $by_owner = sql('owner', "SELECT apikey_create('by-owner', 'acme/pay')");
my $by_admin = sql('admin', "SELECT apikey_create('by-admin', 'acme/pay')");
my $personal = sql('dev', "SELECT apikey_create('personal', subject => 'carl')");
my %holder = (organization => "path => 'acme'", project => "path => 'acme/pay'", 'subject there' => "path => 'acme/pay', subject => 'carl'",
	'subject of acme' => "path => 'acme', subject => 'carl'", key => "key => apikey_id('$by_admin')", 'owner\'s key' => "key => apikey_id('$by_owner')",
	'personal key' => "key => apikey_id('$personal')");
my %id = map { $_ => sql('super', "SELECT apikey_limit_set('tokens', 1000, NULL, 'balance', $holder{$_})") } sort keys %holder;
$holder{subject} = "subject => 'carl'";
$id{subject} = sql('dev', "SELECT apikey_limit_set('tokens', 1000, NULL, 'balance', $holder{subject})");

# set: apikey_limit_set; change: UPDATE of the view, by rows or SQLSTATE; use:
# apikey_limit_add, and apikey_limit_drop the same.
my %matrix = (
	organization => ['ok 42501 42501 42704 42704 42704 42704 42704 42704 42501 ok',
		'1 42501 42501 0 0 0 0 0 0 42501 1', 'ok 42501 42501 42704 42704 42704 42704 42704 42704 42501 ok'],
	project => ['ok 42501 42501 ok 42501 42501 42501 42501 42704 42501 ok',
		'1 42501 42501 1 42501 42501 42501 42501 0 42501 1', 'ok 42501 42501 ok 42501 42501 42501 42501 42704 42501 ok'],
	'subject there' => ['ok 42501 42501 ok 42501 42501 42501 42501 42704 42501 ok',
		'1 42501 0 1 42501 0 0 42501 0 42501 1', 'ok 42501 42704 ok 42501 42704 42704 42501 42704 42501 ok'],
	'subject of acme' => ['ok 42501 42501 42704 42704 42704 42704 42704 42704 42501 ok',
		'1 42501 0 0 0 0 0 0 0 42501 1', 'ok 42501 42704 42704 42704 42704 42704 42704 42704 42501 ok'],
	key => ['ok ok 42704 ok ok 42704 42704 ok 42704 42501 ok',
		'1 1 0 1 1 0 0 1 0 42501 1', 'ok ok 42704 ok ok 42704 42704 ok 42704 42501 ok'],
	'owner\'s key' => ['ok 42501 42704 ok 42501 42704 42704 42501 42704 42501 ok',
		'1 42501 0 1 42501 0 0 42501 0 42501 1', 'ok 42501 42704 ok 42501 42704 42704 42501 42704 42501 ok'],
	'personal key' => ['42704 42704 42704 42704 42704 ok 42704 42704 42704 42501 ok',
		'0 0 0 0 0 1 0 0 0 42501 1', '42704 42704 42704 42704 42704 ok 42704 42704 42704 42501 ok'],
	# Of its own keys each may.
	subject => ['ok ok ok ok ok ok ok ok ok ok ok',
		'0 0 0 0 0 1 0 0 0 42501 1', '42704 42704 42704 42704 42704 ok 42704 42704 42704 42501 ok']);
sub attempt
{
	my ($role, $sql) = @_;
	my ($rc, $stdout, $stderr) = $node->psql('postgres', "\\set VERBOSITY sqlstate\nSET ROLE $role;\nBEGIN;\n$sql;\nROLLBACK");
	return $stderr =~ /ERROR:  (\w+)/ ? $1 : $sql =~ /^UPDATE/ ? scalar(() = $stdout =~ /^1$/mg) : 'ok';
}
for my $of (sort keys %matrix)
{
	my ($set, $change, $use) = @{ $matrix{$of} };
	is(join(' ', map { attempt($_, "SELECT apikey_limit_set('words', 1, '1 hour', 'quota', $holder{$of})") } @roles), $set, "$of: set");
	is(join(' ', map { attempt($_, "UPDATE apikey_limits SET amount = 900 WHERE id = '$id{$of}' RETURNING 1") } @roles), $change, 'change');
	is(join(' ', map { attempt($_, "SELECT apikey_limit_add('$id{$of}', 5)") } @roles), $use, 'add');
	is(join(' ', map { attempt($_, "SELECT apikey_limit_drop('$id{$of}')") } @roles), $use, 'drop');
}
# Whose key it is decides about charges, not what the caller is there.
is(join(' ', map { attempt($_, "SELECT apikey_charge(apikey_id('$by_admin'), '{\"tokens\": 1}', 'acme/pay')") } @roles), join(' ', ('ok') x 11), 'charge, named');
is(join(' ', map { attempt($_, "SELECT apikey_charge(apikey_id('$personal'), '{\"tokens\": 1}')") } @roles), '42704 42704 42704 42704 42704 ok 42704 42704 42704 42704 42704', 'charge, its own');
is(sql('super', 'SELECT count(*), min(amount), max(amount) FROM apikey_limits'), '8|1000|1000', 'and nothing of it stayed');
sql('super', 'SELECT apikey_limit_drop(id) FROM apikey_limits');

# Where sessions meet.  Who waits for the worker may be too late once.
my ($one, $two) = map { $node->background_psql('postgres') } 1 .. 2;
$_->query_safe('SET ROLE org_owner') for $one, $two;
my $key = sql('org_owner', "SELECT apikey_create('raced', 'acme/pay')");
sub ask { my ($session, $n) = @_; return $session->query_safe("SELECT code FROM apikey_verify('$key', project => 'acme', cost => 0, costs => '{\"tokens\": $n}')") }
sub verify
{
	my ($session, $n) = @_;
	my $result;
	for (1 .. 50) { $result = ask($session, $n); last if $result ne 'unavailable' }
	return $result;
}
sub charge { my ($session, $n) = @_; return $session->query_safe("SELECT apikey_charge(apikey_id('$key'), '{\"tokens\": $n}', 'acme')") }
sub set { my ($session, $n) = @_; return $session->query_safe("SELECT apikey_limit_set('tokens', $n, '1 day', 'quota', path => 'acme/pay')") }
sub left { return sql('super', 'SELECT string_agg(remaining::text, \' \' ORDER BY created_at) FROM apikey_limits') }

# Set: nobody is bound before the commit, everybody after it.
is(verify($two, 1000), 'valid', 'no limit');
$one->query_safe('BEGIN');
my $limit = set($one, 100);
is(verify($two, 1000), 'valid', 'one that is being set');
is(verify($one, 1000), 'exhausted', 'binds its own transaction');
$one->query_safe('COMMIT');
is(verify($two, 1000), 'exhausted', 'and then all');
is(verify($two, 30), 'valid', 'which spend of it');
# Replaced, while others verify and charge: what was spent before stays spent.
$one->query_safe('BEGIN');
is(set($one, 200), $limit, 'replaced');
is(verify($two, 50), 'valid', 'what is there may be spent meanwhile');
charge($two, 10);
$one->query_safe('COMMIT');
is(left(), 110, 'and is known when it is committed');
$one->query_safe('BEGIN');
set($one, 120);
$one->query_safe('ROLLBACK');
is(left(), 110, 'nothing of what is rolled back');
is(verify($two, 100), 'valid', 'not even for who verifies');
is(verify($two, 11), 'exhausted', 'but no more than there was');
# Dropped: with the commit.
$one->query_safe('BEGIN');
$one->query_safe("SELECT apikey_limit_drop('$limit')");
is(verify($two, 9), 'valid', 'the rest of one that is being dropped');
isnt(ask($two, 2), 'valid', 'which still binds');
$one->query_safe('ROLLBACK');
is(verify($two, 2), 'exhausted', 'and goes on to, rolled back');
is(verify($two, 1), 'valid', 'to the last');
$one->query_safe('BEGIN');
$one->query_safe("SELECT apikey_limit_drop('$limit')");
$one->query_safe("PREPARE TRANSACTION 'dropped'");
isnt(ask($two, 1), 'valid', 'or prepared');
$node->safe_psql('postgres', "COMMIT PREPARED 'dropped'");
is(verify($two, 1), 'valid', 'until it is committed');
# A charge on its way where the limit goes.
$limit = set($one, 100);
$two->query_safe('BEGIN');
charge($two, 40);
$one->query_safe("SELECT apikey_limit_drop('$limit')");
$two->query_safe('ROLLBACK');
$limit = set($one, 100);
is(left(), 100, 'a charge of a limit that is gone does not reach the next');
# Two set the same: one waits, and replaces.
$one->query_safe('BEGIN');
my $first = $one->query_safe("SELECT apikey_limit_set('words', 10, '1 day', path => 'acme')");
my $pid = $two->query_safe('SELECT pg_backend_pid()');
$two->query_until(qr/started/, "\\echo started\nSELECT 'second ' || apikey_limit_set('words', 20, '1 day', path => 'acme');\n");
ok($node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_locks WHERE pid = $pid AND NOT granted"), 'the second waits');
$one->query_safe('COMMIT');
is(sql('super', "SELECT count(*), max(amount) FROM apikey_limits WHERE unit = 'words'"), '1|20', 'and replaces')
	if $node->poll_query_until('postgres', "SELECT count(*) = 1 FROM apikey_limits WHERE amount = 20");
$two->query_safe('SELECT 1');

# A holder has eight limits and no more, however many are set at once.
sql('super', 'SELECT apikey_limit_drop(id) FROM apikey_limits');
my $of_subject = 'subject => \'ann\'';
my $owned = sql('org_owner', "SELECT apikey_create('bounded', 'acme/pay', subject => 'ann')");
for my $holder ("path => 'acme/pay'", "path => 'acme/pay', $of_subject", "path => 'acme'", "path => 'acme', $of_subject", $of_subject, "key => apikey_id('$owned')")
{
	sql('org_owner', "SELECT count(apikey_limit_set('u' || n, 1000, '1 day', $holder)) FROM generate_series(1, 7) n");
	$one->query_safe('BEGIN');
	$one->query_safe("SELECT apikey_limit_set('one', 1000, '1 day', $holder)");
	my $other = IPC::Run::start([ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-c', 'SET ROLE org_owner', '-c', "SELECT apikey_limit_set('two', 1000, '1 day', $holder)", 'postgres' ],
		'>', \my $set, '2>', \my $refusal);
	$node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted) OR NOT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE '%''two''%' AND pid <> pg_backend_pid() AND state = 'active')");
	$one->query_safe('COMMIT');
	$other->finish;
	like($refusal, qr/A holder has at most 8 limits/, "$holder: no ninth");
}
is(sql('super', 'SELECT count(*) FROM apikey_limits'), 48, 'eight of each');
is(sql('org_owner', "SELECT code FROM apikey_verify('$owned', project => 'acme', cost => 0, costs => '{\"u7\": 1}')"), 'valid', 'all of them together');
# What a restore or a subscription has brought more is not left out: nothing is decided.
sql('super', "INSERT INTO apikey_limit SELECT (r).* FROM (SELECT jsonb_populate_record(l, jsonb_build_object('id', gen_random_uuid(), 'unit', 'more' || n)) AS r " .
	"FROM apikey_limit l, generate_series(1, 9) n WHERE unit = 'u1' AND project IS NULL AND subject IS NULL AND organization IS NOT NULL) more");
is(sql('org_owner', "SELECT concat_ws(' ', code, detail) FROM apikey_verify('$owned', project => 'acme')"), 'unavailable', 'more than there can be');
is(sql('org_owner', "SELECT apikey_check('$owned', project => 'acme')"), 'f', 'nothing raises');
is(attempt('org_owner', "SELECT apikey_charge(apikey_id('$owned'), '{\"u7\": 1}', 'acme')"), '55000', 'nor is charged');
like(slurp_file($node->logfile), qr/has more than 42 limits, its own and those of where it belongs/, 'the log says why');
sql('super', "SELECT apikey_limit_drop(id) FROM apikey_limits");
is(sql('org_owner', "SELECT code FROM apikey_verify('$owned', project => 'acme')"), 'valid', 'until they are dropped');

# Whoever sets a limit of a project, changes it and drops it at a time waits for
# the others, and none ends in a deadlock.
my $turns = PostgreSQL::Test::Utils::tempdir();
my %turn = (set => q{PERFORM apikey_limit_set('turns', (random() * 1000)::bigint + 1, NULL, 'balance', path => 'acme/pay')},
	change => q{UPDATE apikey_limits SET amount = amount + 1 WHERE unit = 'turns'}, drop => q{PERFORM apikey_limit_drop(id) FROM apikey_limits WHERE unit = 'turns'});
append_to_file("$turns/$_", "SET ROLE org_owner;\nDO \$\$ BEGIN $turn{$_}; EXCEPTION WHEN serialization_failure OR undefined_object THEN NULL; END \$\$;\n") for keys %turn;
$node->command_ok([ 'pgbench', '-n', '-c', '8', '-j', '2', '-t', '100', (map { ('-f', "$turns/$_") } sort keys %turn), 'postgres' ], 'set, changed and dropped at a time');
sql('super', 'SELECT apikey_limit_drop(id) FROM apikey_limits');

# A role's subject has no row: whoever sets its limits keeps those waiting who do,
# not for long, and nobody else.
$node->safe_psql('postgres', 'CREATE ROLE leaving');
sub of_subject { my ($subject, $amount) = @_; return "SELECT apikey_limit_set('tokens', $amount, '1 day', subject => '$subject')" }
sub refused
{
	my ($begin) = @_;
	my ($rc, $stdout, $stderr) = $node->psql('postgres', 'SET ROLE leaving; ' . ($begin // '') . of_subject('eve', 7), timeout => 30, timed_out => \my $late);
	return $late ? 'waits' : $stderr;
}
$one->query_safe('SET ROLE leaving; BEGIN');
$one->query_safe(of_subject('eve', 5));
$pid = $one->query_safe('SELECT pg_backend_pid()');
my $begun = time;
like(refused(), qr/could not change table "apikey_limit" while somebody else does\nDETAIL:  Process $pid has/, 'a limit of the same subject waits');
cmp_ok(time - $begun, '<=', 8, 'not for long');
$begun = time;
like(refused("SET lock_timeout = '200ms'; "), qr/canceling statement due to lock timeout/, 'for no longer than lock_timeout');
cmp_ok(time - $begun, '<=', 3, 'if that is shorter');
# What is claimed is seen by all, and is another thing for another role.
my %claimed;
for my $role ('leaving', 'dev')
{
	my ($other) = grep { /claimed/ } split /\n/, sql($role, 'BEGIN', of_subject('mark', 5),
		"SELECT 'claimed ' || objsubid FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'object' AND classid = 'apikey_limit'::regclass", 'ROLLBACK');
	$claimed{$role} = $other;
}
like($claimed{dev}, qr/^claimed -?\d+$/, 'a claim is seen');
isnt($claimed{dev}, $claimed{leaving}, 'and tells no other role the subject');
ok(sql('leaving', "SET lock_timeout = '200ms'", of_subject('adam', 5)), 'one of another subject waits for nobody');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_locks WHERE pid = $pid AND locktype = 'object' AND classid = 'pg_authid'::regclass AND mode <> 'AccessShareLock'"),
	0, 'the role is not locked');
$one->query_safe("PREPARE TRANSACTION 'subject'");
like(refused(), qr/could not change table "apikey_limit" while somebody else does\nHINT/, 'the same where it is prepared');
$node->safe_psql('postgres', "SET lock_timeout = '2s'; DROP ROLE leaving");
$node->safe_psql('postgres', "ROLLBACK PREPARED 'subject'");
is(sql('super', "SELECT count(*) FROM apikey_limits WHERE subject = 'eve'"), 0, 'and goes with it');

# Whose a key was, and an old snapshot or a cursor shows it as that, is told
# nothing of what others do with it now.
my $moved = sql('creator', "SELECT apikey_create('moved', credits => 100)");
my @old = map { $node->background_psql('postgres') } 1 .. 2;
my $columns = "name, use_count, denied_count, last_used_at IS NULL, last_used_addr, credits FROM apikeys WHERE name = 'moved'";
$old[0]->query_safe('SET ROLE creator; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
$old[1]->query_safe("SET ROLE creator; BEGIN; DECLARE c CURSOR FOR SELECT $columns");
is($old[0]->query_safe("SELECT $columns"), 'moved|0|0|t||100', 'its owner');
sql('super', "SELECT apikey_transfer(apikey_id('$moved'), 'dev')");
sql('dev', "SELECT code FROM apikey_verify('$moved', client_addr => '192.0.2.7')") for 1 .. 3;
is($old[0]->query_safe("SELECT $columns"), 'moved|0|0|t||', 'who was it');
is($old[1]->query_safe('FETCH c'), 'moved|0|0|t||', 'by a cursor');
is(sql('dev', "SELECT $columns"), 'moved|3|0|f|192.0.2.7|97', 'who is');
$_->quit for @old;

# Who has the account of a limit, and leaves its transaction open, holds up nobody
# who deletes the limit's key, purges it, or drops its project or the limit.
my $admin = $node->background_psql('postgres');
$node->safe_psql('postgres', join ';', 'SET ROLE org_owner', (map { "SELECT apikey_project_create('acme/$_')" } 'held', 'let'),
	"SELECT apikey_member_add('acme/held', 'admin', 'admin')", "CREATE TEMP TABLE made AS SELECT name, apikey_create(name, 'acme/held', role => 'admin') AS key FROM unnest(ARRAY['spent', 'deleted', 'purged', 'dropped', 'free']) name",
	"SELECT apikey_limit_set('tokens', 1000, '1 day', 'quota', key => apikey_id(key)) FROM made WHERE name <> 'free'", "SELECT apikey_limit_set('words', 1000, '1 day', 'quota', path => 'acme/' || p) FROM unnest(ARRAY['held', 'let']) p",
	'RESET ROLE', 'CREATE TABLE made_here AS TABLE made', 'GRANT SELECT ON made_here TO PUBLIC');
sub id_of { my ($name) = @_; return $node->safe_psql('postgres', "SELECT id FROM apikeys WHERE name = '$name' AND project = 'acme/held'") }
sub quickly
{
	my ($what, @do) = @_;
	my ($rc, $stdout, $stderr) = $node->psql('postgres', join '; ', 'SET ROLE org_owner', "SET lock_timeout = '1s'", @do);
	is($stderr, '', "$what waits for nobody");
	return $stdout;
}
sub rows { my ($name) = @_; return $node->safe_psql('postgres', "SELECT (SELECT count(*) FROM apikey_key WHERE id = apikey_id(key)), (SELECT count(*) FROM apikey_limit l WHERE l.key = apikey_id(m.key)) FROM made_here m WHERE name = '$name'") }
my $accounts = 'SELECT count(*) FROM apikey_credit c WHERE anchor IS NOT NULL AND NOT EXISTS (SELECT FROM apikey_limit l WHERE l.id = c.id)';
# What a savepoint has undone is not written: a verification after it spends of a lease.
$admin->query_safe('SET ROLE admin; BEGIN; SAVEPOINT s');
$admin->query_safe("SELECT apikey_limit_set('tokens', 900, '1 day', 'quota', key => '" . id_of('spent') . "')");
$admin->query_safe('ROLLBACK TO s');
my $spent = '';
for (1 .. 50) { last if ($spent = $admin->query_safe("SELECT code FROM made_here m, apikey_verify(key, project => 'acme/held', costs => '{\"tokens\": 1}') WHERE m.name = 'spent'")) ne 'unavailable' }
is($spent, 'valid', 'spent after a savepoint');
quickly('to delete the key', "SELECT apikey_delete(id, 'spent') FROM apikeys WHERE name = 'spent'");
is(rows('spent'), '0|0', 'and it is gone');
$admin->query_safe('ROLLBACK; RESET ROLE; BEGIN');
# Whoever has the rows themselves, as a verification does that no worker serves.
$admin->query_safe('SELECT count(*) FROM (SELECT FROM apikey_credit WHERE anchor IS NOT NULL FOR UPDATE) c');
my $let = $node->safe_psql('postgres', "SELECT id FROM apikey_limits WHERE unit = 'words' AND path = 'acme/let'");
quickly('to delete a key', "SELECT apikey_delete(id, 'deleted') FROM apikeys WHERE name = 'deleted'");
is(rows('deleted'), '1|1', 'which goes beside its row');
is(quickly('to purge', "SELECT count(*) FROM apikeys WHERE name IN ('purged', 'free') AND apikey_revoke(id)", "SELECT apikey_purge('0')"), "2\n1", 'what can be purged is');
is(rows('purged'), '1|1', 'and the other stays');
quickly('to drop a limit', "SELECT apikey_limit_drop('$let')");
quickly('to drop the project', "SELECT apikey_project_drop('acme/held', 'acme/held')");
is(sql('super', "SELECT count(*) FROM apikeys WHERE name IN ('deleted', 'purged', 'dropped')"), 0, 'all of them are gone');
my $settled = -s $node->logfile;
sql('super', "SELECT apikey_self_revoke(apikey_create('settled'))", 'SELECT apikey_flush()');
is($node->safe_psql('postgres', "SELECT count(*), bool_and(removed) FROM apikey_revocation"), '3|t', 'the worker passes them by, and settles what is free');
unlike(slurp_file($node->logfile, $settled), qr/(?:WARNING|ERROR): /, 'without a word');
cmp_ok($node->safe_psql('postgres', $accounts), '>=', 2, 'the accounts of what was dropped are left');
$admin->query_safe('COMMIT');
sql('super', 'SELECT apikey_flush()');
is(rows($_), '0|0', 'then all of it goes') for 'deleted', 'purged', 'dropped';
sql('super', "SELECT apikey_purge('1 day')");
is($node->safe_psql('postgres', $accounts), '0', 'and what is left with the next purge');
$admin->quit;

# A key that is rotated in a loop has its limits at each instant: of its rates
# no more passes than there is.
sql('super', 'SELECT apikey_limit_drop(id) FROM apikey_limits');
my $dir = PostgreSQL::Test::Utils::tempdir();
$node->safe_psql('postgres', "CREATE TABLE chain AS SELECT 1 AS n, apikey_create('chained', rate_limit => 400, rate_window => '31 days') AS key");
$node->safe_psql('postgres', "SELECT apikey_limit_set('tokens', 400, '31 days', key => apikey_id(key)) FROM chain");
append_to_file("$dir/rotate", "INSERT INTO chain SELECT n + 1, apikey_rotate(apikey_id(key), '1 hour') FROM chain ORDER BY n DESC LIMIT 1;\n");
append_to_file("$dir/verify", "SELECT code FROM (SELECT key FROM chain ORDER BY random() LIMIT 1) k, apikey_verify(key, cost => 0, costs => '{\"tokens\": 1}');\n");
append_to_file("$dir/short", "SELECT code FROM (SELECT key FROM chain ORDER BY random() LIMIT 1) k, apikey_verify(key);\n");
my $rotating = IPC::Run::start([ 'pgbench', '-n', '-c', '1', '-t', '40', '-f', "$dir/rotate", '-h', $node->host, '-p', $node->port, 'postgres' ], '>', \my $out, '2>', \my $err);
$node->command_ok([ 'pgbench', '-n', '-c', '8', '-j', '2', '-t', '300', '-f', "$dir/verify", '-f', "$dir/short", 'postgres' ], 'eight sessions');
$rotating->finish;
is($node->safe_psql('postgres', 'SELECT count(*) FROM chain'), '41', 'forty rotations');
$node->safe_psql('postgres', 'SELECT apikey_flush()');
is($node->safe_psql('postgres', "SELECT sum((spent->>'requests')::int), sum((spent->>'tokens')::int) FROM apikey_usage_history WHERE key_name = 'chained'"),
	'400|400', 'no more than was granted passed, of either form');
$_->quit for $one, $two;
$node->stop;
done_testing();
