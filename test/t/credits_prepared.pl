# What PREPARE TRANSACTION makes final of credits, quotas and balances in memory,
# and what ROLLBACK PREPARED undoes in their rows: whatever becomes of it, nothing
# is spent, or given back, that was not granted, and nothing is lost.
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
apikey.subject_setting = 'app.usr'
max_prepared_transactions = 5
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION apikey CASCADE; CREATE ROLE bob; CREATE ROLE web IN ROLE bob');

sub sql { return $node->safe_psql('postgres', join ';', @_) }
sub bob { return sql('SET ROLE bob', @_) }
my $names = 0;
# A key of bob's, with a balance of 1000 of which a lease of 100 is out, and its id.
sub make
{
	my ($overdraft) = @_;
	my $name = 'key-' . ++$names;
	my $key = bob("SELECT apikey_create('$name')");
	my $balance = bob("SELECT apikey_limit_set('requests', 1000, NULL, 'balance', key => apikey_id('$key'), overdraft => @{[$overdraft // 0]})");
	is(verify($key, 1), 'valid', 'a key is used');
	bob(charge($key, -1));
	is(left_of($balance), 1000, 'of which all is left');
	return ($key, $balance);
}
sub left_of { return sql("SELECT remaining FROM apikey_limits WHERE id = '$_[0]'") }
sub spend { my ($key, $cost) = @_; return "SELECT code FROM apikey_verify('$key', cost => $cost, owner => 'bob')" }
sub charge { my ($key, $requests) = @_; return qq{SELECT apikey_charge(apikey_id('$key'), '{"requests": $requests}', owner => 'bob')} }
# Who waits for the worker may be too late once.
sub verify
{
	my ($key, $cost) = @_;
	my $code;
	for (1 .. 50) { $code = bob(spend($key, $cost)); last if $code ne 'unavailable' }
	return $code;
}
# A key, as long as it passes: how much it has spent.
sub spend_all
{
	my ($key) = @_;
	my $spent = 0;
	for my $cost (500, 100, 10, 1) { $spent += $cost while verify($key, $cost) eq 'valid' && $spent < 3000 }
	return $spent;
}
my $gid = 0;
# Prepares what these do, and ends it so; what they have answered.
sub prepared
{
	my ($end, @sql) = @_;
	my $name = 'p' . ++$gid;
	my $answer = sql('BEGIN', @sql, "PREPARE TRANSACTION '$name'");
	sql("$end PREPARED '$name'");
	return $answer;
}

note 'What was spent in a row, and is there again.';
my $add = "SELECT count(apikey_limit_add('%s', 1))";
{
	my ($key, $balance) = make();
	is(prepared('ROLLBACK', 'SET LOCAL ROLE bob', sprintf($add, $balance), spend($key, 700)), "1\nvalid", 'prepared');
	is(left_of($balance), 1000, 'and rolled back');
	bob(charge($key, -700));
	is(left_of($balance), 1000, 'it is not given back once more');
	is(spend_all($key), 1000, 'and so much can be spent');
}
{
	my ($key, $balance) = make();
	is(prepared('ROLLBACK', 'SET LOCAL ROLE bob', sprintf($add, $balance), spend($key, 700), charge($key, -700)), "1\nvalid\n", 'given back in the same transaction');
	is(left_of($balance), 1000, 'and rolled back: nothing has come back');
	bob(charge($key, -700));
	is(left_of($balance), 1000, 'nor does it later');
	is(prepared('COMMIT', 'SET LOCAL ROLE bob', sprintf($add, $balance), spend($key, 700), charge($key, -700)), "1\nvalid\n", 'or committed');
	is(left_of($balance), 301, 'what is prepared does not come back');
	bob(charge($key, -700));
	is(left_of($balance), 301, 'nor later');
}
{
	my ($key, $balance) = make();
	is(prepared('ROLLBACK', 'SET LOCAL ROLE bob', spend($key, 20), sprintf($add, $balance), 'SAVEPOINT a', spend($key, 700), charge($key, -710), 'RELEASE a'), "valid\n1\nvalid\n", 'of what was spent in memory, too');
	is(left_of($balance), 1000, 'that has come back, as far as it was');
	bob(charge($key, -720));
	is(left_of($balance), 1000, 'and no more can be given back');
}
{
	my ($key, $balance) = make();
	is(verify($key, 50), 'valid', 'spent before');
	is(prepared('ROLLBACK', 'SET LOCAL ROLE bob', sprintf($add, $balance), spend($key, 700), charge($key, -750)), "1\nvalid\n", 'and given back, too');
	is(left_of($balance), 1000, 'is back');
	bob(charge($key, -1000));
	is(left_of($balance), 1000, 'once');
}
# Of an account of many keys: what one has spent in memory is not what another had in the row.
{
	my ($one, $other) = map { bob("SET app.usr = 'both'", "SELECT apikey_create('$_')") } 'one', 'other';
	my $balance = bob("SELECT apikey_limit_set('requests', 1000, NULL, 'balance', subject => 'both')");
	is(verify($one, 1), 'valid', 'two keys of a subject');
	bob(charge($one, -1));
	is(prepared('ROLLBACK', 'SET LOCAL ROLE bob', spend($one, 50), sprintf($add, $balance), spend($other, 700), charge($other, -700)), "valid\n1\nvalid\n", 'one spends in memory, another in the row');
	is(left_of($balance), 950, 'what the one has spent is');
	bob(charge($other, -700), charge($one, -700));
	is(left_of($balance), 1000, 'and can be given back once');
}
# A subject, which may only tighten.
{
	my $key = bob(q{SET app.usr = 'u8'}, q{SELECT apikey_create('of-subject')});
	my $balance = bob(q{SELECT apikey_limit_set('requests', 1000, NULL, 'balance', subject => 'u8')});
	is(verify($key, 1), 'valid', 'a subject');
	for my $change ('amount = 999', 'shared = true', 'amount = amount')
	{
		my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY sqlstate\nSET ROLE web; SET app.usr = 'u8'; BEGIN; UPDATE apikey_limits SET $change WHERE subject = 'u8'; "
			. spend($key, 700) . "; PREPARE TRANSACTION 'v'");
		is($err, '', "$change, and spends");
		sql("ROLLBACK PREPARED 'v'");
		sql("SET app.usr = 'u8'", 'SET ROLE web', charge($key, -9000));
		is(left_of($balance), 1000, 'which gives it no more');
	}
	is(spend_all($key), 1000, 'to spend');
}
# Credits of a key, by generations.
{
	my $key = bob(q{SELECT apikey_create('generations', credits => 1000)});
	sub credits { return sql(q{SELECT credits FROM apikeys WHERE name = 'generations'}) }
	is(verify($key, 1), 'valid', 'credits');
	is(prepared('ROLLBACK', 'SET LOCAL ROLE bob', q{UPDATE apikeys SET credits = 800 WHERE name = 'generations'}, spend($key, 700)), 'valid', 'set anew and spent');
	is(credits(), 999, 'and rolled back');
	bob(q{UPDATE apikeys SET credits = 900 WHERE name = 'generations'});
	is(verify($key, 1), 'valid', 'set anew');
	bob(charge($key, -700));
	is(credits(), 900, 'of that nothing but what was spent is given back');
}

note 'What was taken out of a lease into the row.';
for my $end ('ROLLBACK', 'COMMIT')
{
	my $commits = $end eq 'COMMIT';
	my ($key, $balance) = make(5);
	prepared($end, 'SET LOCAL ROLE bob', "UPDATE apikey_limits SET overdraft = 4 WHERE id = '$balance'");
	is(left_of($balance), 1000, "$end of a change that ends a lease");
	is(verify($key, 10), 'valid', 'it is spent of');
	is(left_of($balance), 990, 'as before');
	is(spend_all($key), 990, 'to the end');

	($key, $balance) = make();
	prepared($end, 'SET LOCAL ROLE bob', spend($key, 20), "UPDATE apikey_limits SET amount = 900 WHERE id = '$balance'", spend($key, 100));
	is(left_of($balance), $commits ? 780 : 980, "$end of one that makes it tighter, and spends");
	bob(charge($key, -1000));
	is(left_of($balance), $commits ? 800 : 1000, 'what was spent in memory can be given back');
	is(spend_all($key), $commits ? 800 : 1000, 'and what is left spent');

	($key, $balance) = make();
	is(prepared($end, 'SET LOCAL ROLE bob', sprintf($add, $balance), spend($key, 950)), "1\nvalid", 'more than the row has');
	is(left_of($balance), $commits ? 51 : 1000, "$end of what took the lease into the row");
	is(spend_all($key), $commits ? 51 : 1000, 'and that can be spent');
	for my $level ('REPEATABLE READ', 'SERIALIZABLE')
	{
		($key, $balance) = make();
		prepared($end, "SET TRANSACTION ISOLATION LEVEL $level", 'SET LOCAL ROLE bob', sprintf($add, $balance), spend($key, 950));
		is(left_of($balance), $commits ? 51 : 1000, "the same, $level");
	}

	($key, $balance) = make();
	is(prepared($end, 'SET LOCAL ROLE bob', sprintf($add, $balance), spend($key, 950), "UPDATE apikey_limits SET amount = 990 WHERE id = '$balance'"), "1\nvalid", 'and ended it then');
	is(left_of($balance), $commits ? 41 : 1000, "$end of both");
	is(spend_all($key), $commits ? 41 : 1000, 'and that can be spent');

	($key, $balance) = make();
	prepared($end, 'SET LOCAL ROLE bob', "SELECT apikey_limit_drop('$balance')");
	is($commits ? verify($key, 2000) : left_of($balance), $commits ? 'valid' : 1000, "$end of its end");
}
# What is prepared for long, over a restart.
{
	my ($key, $balance) = make();
	sql('BEGIN', 'SET LOCAL ROLE bob', "UPDATE apikey_limits SET amount = 900 WHERE id = '$balance'", "PREPARE TRANSACTION 'long'");
	is(left_of($balance), 1000, 'it shows what is so as yet');
	is(bob(spend($key, 1)), 'unavailable', 'and cannot be spent meanwhile');
	sql('SELECT apikey_flush()');
	$node->restart;
	is(left_of($balance), 1000, 'a restart meanwhile');
	sql(q{ROLLBACK PREPARED 'long'});
	is(verify($key, 1), 'valid', 'rolled back');
	is(left_of($balance), 999, 'nothing is lost');
	sql('SELECT apikey_flush()');
	is(sql("SELECT balance FROM apikey_credit WHERE id = '$balance'"), 999, 'and all of it is put back');
}
$node->stop;
done_testing();
