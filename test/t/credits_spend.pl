# Credits with the library preloaded: leased by the worker, spent in memory,
# never one more than granted; and the rows of dropped roles' keys.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'
apikey.credits_lease = 200
max_prepared_transactions = 5
restart_after_crash = on
autovacuum = off
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION apikey CASCADE; CREATE ROLE anna; CREATE ROLE bert');

sub sql { return $node->safe_psql('postgres', join ';', @_) }
sub create { my ($name, $more) = @_; return sql("SELECT apikey_create('$name', $more)") }
sub left_of { return sql("SELECT credits FROM apikeys WHERE name = '$_[0]'") }

# A verification may come before the worker has answered; only that is tried again.
sub verify
{
	my ($key, $more) = @_;
	my $code;
	for (1 .. 100)
	{
		$code = sql("SELECT code, credits FROM apikey_verify('$key'" . ($more // '') . ')');
		last if $code !~ /^unavailable/;
	}
	return $code;
}

# In read-only transactions too, without a byte of WAL of its own.
my $few = create('few', 'credits => 4');
is(verify($few), 'valid|3', 'a credit is spent');
is(sql('BEGIN READ ONLY', "SELECT code, credits FROM apikey_verify('$few')", 'COMMIT'), 'valid|2', 'in a read-only transaction');
is(sql("SELECT code, credits FROM apikey_verify('$few', cost => 3)"), 'exhausted|2', 'not enough');
is(sql("SELECT code, credits FROM apikey_verify('$few', cost => 0)"), 'valid|2', 'asked');
is(sql("SELECT code, credits FROM apikey_verify('$few', cost => 2)"), 'valid|0', 'all of it');

# A spend that is rolled back comes back, whatever else has changed meanwhile,
# but not where the credits were set anew.
my $spender = $node->background_psql('postgres');
my $kept = create('kept', "credits => 1000, credits_refill => 1000, credits_interval => '1 day'");
verify($kept, ', cost => 0');
is(verify($kept), 'valid|999', 'there is a lease');
like($spender->query_safe("BEGIN; SELECT code FROM apikey_verify('$kept', cost => 90)"), qr/^valid/m, 'spent');
sql("UPDATE apikeys SET credits_refill = 500 WHERE name = 'kept'");
$spender->query_safe('ROLLBACK');
is(left_of('kept'), 999, 'another refill');
like($spender->query_safe("BEGIN; SELECT code FROM apikey_verify('$kept', cost => 20)"), qr/^valid/m, 'spent');
my $setter = $node->background_psql('postgres');
$setter->query_safe("BEGIN; UPDATE apikeys SET credits = 10 WHERE name = 'kept'");
$spender->query_safe('ROLLBACK');
$setter->query_safe('COMMIT');
is(left_of('kept'), 10, 'set anew');
sql("UPDATE apikeys SET credits_interval = '2 days' WHERE name = 'kept'");
is(left_of('kept'), 10, 'and nothing more than that');
is(verify($kept, ', cost => 11'), 'exhausted|10', 'nor to be spent');
$_->quit for $spender, $setter;

# Whoever holds a text has no row of it, whatever else its transaction has done.
my $shared = create('shared', 'credits => 1000');
is(verify($shared), 'valid|999', 'of many holders');
my $holder = $node->background_psql('postgres');
$holder->query_safe("SET ROLE anna; BEGIN; SELECT apikey_create('annas', credits => 5) IS NOT NULL");
like($holder->query_safe("SELECT code FROM apikey_verify('$shared', owner => session_user::regrole)"), qr/^valid/m, 'one of them has credits to give, too');
is(sql("SET lock_timeout = '1s'", "UPDATE apikeys SET credits = 500 WHERE name = 'shared'", "SELECT credits FROM apikeys WHERE name = 'shared'"), 500, 'the owner sets them');
is(verify($shared, ', cost => 400'), 'valid|100', 'and others spend');
$holder->query_safe('ROLLBACK');
$holder->quit;

# More than can be counted is not kept, but harms nobody.
my $most = create('most', 'credits => 9223372036854775807');
is(verify($most), 'valid|9223372036854775806', 'one of the most there can be');
my $add = sub { return sql("SELECT apikey_credits_add(id, 1) FROM apikeys WHERE name = 'most'") };
is($add->(), '9223372036854775807', 'and back');
my $undone = $node->background_psql('postgres');
like($undone->query_safe("BEGIN; SELECT code FROM apikey_verify('$most', cost => 1)"), qr/^valid/m, 'spent');
is($add->(), '9223372036854775807', 'and added while it may come back');
$undone->query_safe('ROLLBACK');
is(left_of('most'), '9223372036854775807', 'still the most');
$undone->quit;
is(sql("SELECT code, credits FROM apikey_verify('$few')"), 'exhausted|0', 'and no more');
is(left_of('few'), 0, 'as the view says');

# More is granted, set, removed: at once.
is(sql("SELECT apikey_credits_add(id, 3) FROM apikeys WHERE name = 'few'"), 3, 'added');
is(verify($few), 'valid|2', 'spent of what was added');
sql("UPDATE apikeys SET credits = 1 WHERE name = 'few'");
is(verify($few), 'valid|0', 'what was leased before does not count');
is(verify($few), 'exhausted|0', 'nor later');
sql("UPDATE apikeys SET credits = NULL WHERE name = 'few'");
is(verify($few), 'valid|', 'without credits');

# Given back on rollback, of a savepoint too; final at PREPARE.
my $back = create('back', 'credits => 10');
verify($back);
is( sql('BEGIN', "SELECT credits FROM apikey_verify('$back', cost => 2)", 'SAVEPOINT a',
		"SELECT credits FROM apikey_verify('$back', cost => 3)", 'SAVEPOINT b',
		"SELECT credits FROM apikey_verify('$back')", 'RELEASE b', 'ROLLBACK TO a',
		"SELECT credits FROM apikey_verify('$back', cost => 0)", 'ROLLBACK'),
	"7\n4\n3\n7", 'a rollback to a savepoint gives back');
is(left_of('back'), 9, 'a rollback gives back');
is( sql("DO \$\$ BEGIN PERFORM apikey_check('$back'); PERFORM 1/0; EXCEPTION WHEN division_by_zero THEN END \$\$",
		"SELECT credits FROM apikeys WHERE name = 'back'"), 9, 'so does an exception that is caught');
sql('BEGIN', "SELECT apikey_check('$back')", "PREPARE TRANSACTION 'p'");
is(left_of('back'), 8, 'final at PREPARE');
sql("ROLLBACK PREPARED 'p'");
is(left_of('back'), 8, 'whatever comes of it');

# What a transaction has granted or made itself it may spend.
is( sql('BEGIN', "SELECT apikey_credits_add(id, 5) FROM apikeys WHERE name = 'back'",
		"SELECT code, credits FROM apikey_verify('$back', cost => 9)", 'ROLLBACK'), "13\nvalid|4", 'in the same transaction');
is(left_of('back'), 8, 'rolled back');
is( sql('BEGIN', "UPDATE apikeys SET credits = 2 WHERE name = 'back'",
		"SELECT code, credits FROM apikey_verify('$back')", 'ROLLBACK'), 'valid|1', 'set in the same transaction');
is(left_of('back'), 8, 'a lease that was ended is back');
is(verify($back), 'valid|7', 'and can be spent');

# A refusal returns its token.
my $both = create('both', "credits => 1, rate_limit => 10, rate_window => '1 hour'");
is(verify($both), 'valid|0', 'a limit and credits');
my $rate = sql("SELECT rate_remaining FROM apikey_verify('$both', cost => 0)");
is(sql("SELECT code, rate_remaining FROM apikey_verify('$both')"), "exhausted|$rate", 'exhausted returns its token');
is(sql("SELECT rate_remaining FROM apikey_verify('$both', cost => 0)"), $rate, 'all of it');

# Eight sessions, some rolling back, others' credits added meanwhile: exactly
# what was granted.
my $many = create('many', 'credits => 3000');
my $dir = PostgreSQL::Test::Utils::tempdir();
append_to_file("$dir/spend.sql", "SELECT apikey_check('$many');\n");
append_to_file("$dir/undo.sql", "BEGIN;\nSELECT apikey_check('$many');\nROLLBACK;\n");
append_to_file("$dir/add.sql", "SELECT apikey_credits_add(id, 10) FROM apikeys WHERE name = 'many';\n");
$node->command_ok([ 'pgbench', '-n', '-c', '8', '-t', '500', '-f', "$dir/spend.sql\@80",
		'-f', "$dir/undo.sql\@19", '-f', "$dir/add.sql\@1", 'postgres' ], 'eight sessions');
my $granted = 3000 + 10 * sql("SELECT count(*) FROM apikey_events WHERE key_name = 'many' AND event = 'updated'");
$node->command_ok([ 'pgbench', '-n', '-c', '8', '-t', '1000', '-f', "$dir/spend.sql", 'postgres' ], 'to the end');
is(verify($many), 'exhausted|0', 'nothing is left');
# Uses count those that were rolled back too.
my $table = sql('SELECT sum(balance) FROM apikey_credit');
my $exact = create('exact', 'credits => 3000');
unlink "$dir/spend.sql";
append_to_file("$dir/spend.sql", "SELECT apikey_check('$exact');\n");
$node->command_ok([ 'pgbench', '-n', '-c', '8', '-t', '600', '-f', "$dir/spend.sql", 'postgres' ], 'eight sessions spend');
is(verify($exact), 'exhausted|0', 'all is spent') or diag(left_of('exact'));
is(sql("SELECT use_count FROM apikeys WHERE name = 'exact'"), 3000, 'exactly what was granted passed');

# Leases survive a clean restart; a crash costs one, and grants nothing twice.
my $crash = create('crash', 'credits => 1000');
is(verify($crash), 'valid|999', 'before');
$node->restart;
is(left_of('crash'), 999, 'after a clean restart');
is(verify($crash), 'valid|998', 'goes on');
my $balance = sql("SELECT balance FROM apikey_credit JOIN apikey_key ON credits_account = apikey_credit.id WHERE name = 'crash'");
is($balance, 900, 'a lease of a tenth, a hundred at least, is out');
my $victim = $node->background_psql('postgres');
kill 'KILL', $victim->query_safe('SELECT pg_backend_pid()');
$victim->quit;
ok($node->poll_query_until('postgres', 'SELECT true'), 'up again');
is(left_of('crash'), 900, 'a crash costs the lease');
is(verify($crash), 'valid|899', 'and goes on');

# A refill comes in its time, whatever was leased.
my $refill = create('refill', "credits => 1, credits_refill => 5, credits_interval => '1 day'");
is(verify($refill), 'valid|0', 'before the refill');
is(verify($refill), 'exhausted|0', 'nothing left before the refill');
sql("UPDATE apikey_credit SET refill_at = now() WHERE refill IS NOT NULL");
$node->restart;
is(verify($refill), 'valid|4', 'refilled');
is(verify($refill, ', cost => 4'), 'valid|0', 'all of it');
is(verify($refill), 'exhausted|0', 'no more than all of it');
my $second = create('second', "credits => 1, credits_refill => 2, credits_interval => '1 second'");
for my $n (1 .. 3)
{
	my $passed = 0;
	$passed++ while verify($second) =~ /^valid/ && $passed < 10;
	cmp_ok($passed, '<=', 2 * 2 + 1, 'no more in a moment than a refill or two');
	ok($node->poll_query_until('postgres', "SELECT credits = 2 FROM apikeys WHERE name = 'second'"), 'it comes each second');
}

# Somebody holds the account: the others do not wait for long.
my $held = create('held', 'credits => 5');
my $keeper = $node->background_psql('postgres');
$keeper->query_safe("BEGIN; SELECT apikey_credits_add(id, 1) FROM apikeys WHERE name = 'held'");
is(sql("SELECT code, credits FROM apikey_verify('$held')"), 'unavailable|', 'cannot be decided now');
$keeper->query_safe('COMMIT');
$keeper->quit;
is(verify($held), 'valid|5', 'when it can be');
like(slurp_file($node->logfile), qr/LOG:  some API keys cannot be verified.*\n.*DETAIL:  Credits of API key [0-9a-f-]{36} cannot be written now/, 'the log says why');

# On a standby nothing can be leased.
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', "SELECT code, credits FROM apikey_verify('$held')"), 'unavailable|', 'on a standby');
$standby->stop;

# A dropped role's keys are revoked in their rows by the worker.
sql('CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION apikey CASCADE');
my %of;
for my $db ('postgres', 'other')
{
	$of{$db} = $node->safe_psql($db, "SET ROLE anna; SELECT apikey_create('annas')");
	$node->safe_psql($db, "SELECT apikey_check('$of{$db}', owner => 'anna')");
}
sql('BEGIN', 'DROP ROLE anna', 'ROLLBACK');
is(sql("SELECT code FROM apikey_verify('$of{postgres}', owner => 'anna')"), 'valid', 'not dropped after all');
sql('DROP ROLE anna');
is($node->safe_psql('other', "SELECT code FROM apikey_verify('$of{other}')"), 'revoked', 'in the other database before its row says so');
is(sql("SELECT code FROM apikey_verify('$of{postgres}')"), 'revoked', 'and in this one');
sql('CREATE ROLE dora');
$node->safe_psql('other', q{SELECT apikey_organization_create('acme'); SELECT apikey_project_create('acme/pay');
	SELECT apikey_member_add('acme/pay', 'dora', 'admin'); SET ROLE dora; SELECT apikey_create('anew', 'acme/pay')});
sql('DROP ROLE dora');
$node->safe_psql('other', q{SELECT apikey_create('anew', 'acme/pay')});
is($node->safe_psql('other', "SELECT revoke_reason FROM apikeys WHERE name = 'anew' ORDER BY created_at LIMIT 1"), 'owner dropped', 'or another key gets its name');
is($node->safe_psql('other', "SELECT count(*) FROM apikey_events WHERE key_name = 'anew' AND event = 'revoked'"), 1, 'with an event, too');
sql(q{ALTER SYSTEM SET apikey.flush_interval = '100ms'}, 'SELECT pg_reload_conf()');
for my $db ('postgres', 'other')
{
	ok($node->poll_query_until($db, q{SELECT revoke_reason = 'owner dropped' FROM apikey_key WHERE name = 'annas'}), "the worker marks it in $db");
	is($node->safe_psql($db, "SELECT event, detail FROM apikey_events WHERE key_name = 'annas' ORDER BY id DESC LIMIT 1"),
		'revoked|{"reason": "owner dropped"}', 'with an event');
}
# A drop that is prepared counts when it is committed, long after it was told of.
sql('CREATE ROLE emil');
sql('SET ROLE emil', "SELECT apikey_create('emils')");
sql('BEGIN', 'DROP ROLE emil', q{PREPARE TRANSACTION 'emil'});
usleep(500_000);
is(sql(q{SELECT revoked_at IS NULL FROM apikey_key WHERE name = 'emils'}), 't', 'a prepared drop revokes nothing');
sql(q{COMMIT PREPARED 'emil'});
ok($node->poll_query_until('postgres', q{SELECT apikey_flush() IS NOT NULL AND revoke_reason = 'owner dropped' FROM apikey_key WHERE name = 'emils'}), 'once it is committed the worker marks its keys');
# Who leaves a change of a role open does not have it look at all keys at each
# flush; and many keys are many steps.
sql('CREATE ROLE frieda; CREATE ROLE gert');
my $changer = $node->background_psql('postgres');
$changer->query_safe(q{BEGIN; ALTER ROLE gert CONNECTION LIMIT 5});
for my $part (0 .. 3)
{
	sql("SELECT count(apikey_create('key-$part-' || i)) FROM generate_series(1, 1000) i", 'SET ROLE frieda', "SELECT count(apikey_create('friedas-$part-' || i)) FROM generate_series(1, 10) i");
}
sql('DROP ROLE frieda');
my $marked = q{SELECT count(*) FROM apikey_key WHERE name LIKE 'friedas-%' AND revoked_at IS NOT NULL};
ok($node->poll_query_until('postgres', $marked, '40'), 'the worker marks the keys of a dropped role, whoever changes another');
cmp_ok(sql(q{SELECT count(DISTINCT xmin::text) FROM apikey_key WHERE name LIKE 'friedas-%'}), '>=', 3, 'in steps of a bounded length');
usleep(500_000);
sql(q{UPDATE apikey_key SET revoked_at = NULL, revoke_reason = NULL WHERE name LIKE 'friedas-%'});
usleep(2_000_000);
is(sql($marked), '0', 'it does not look at all of them at each flush');
$changer->query_safe('ROLLBACK');
$changer->quit;
sql('SELECT apikey_flush()');
is(sql($marked), '40', 'but later, or on request');
# A database that nobody can connect to for a while holds up no other.
my $renamer = $node->background_psql('postgres');
$node->safe_psql('other', "SELECT apikey_check('$of{other}')");
$renamer->query_safe('BEGIN; ALTER DATABASE other RENAME TO another');
my $meanwhile = create('meanwhile', 'credits => 3');
is(verify($meanwhile), 'valid|2', 'credits while another database is locked');
$renamer->query_safe('ROLLBACK');
$renamer->quit;
$node->stop;
done_testing();
