# Servers beside the primary, as their workers call it: each report counts once
# and each credit is out once, whatever answer is lost, whoever has whose
# identity, over a crash of the primary and the promotion of a real standby.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep time);

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '200ms'
apikey.server_timeout = '2s'
apikey.credits_lease = 1000
});
$primary->start;
my $node = $primary;
sub sql { return $node->safe_psql('postgres', @_) }
sql('CREATE EXTENSION apikey CASCADE; CREATE ROLE fleet LOGIN; SELECT apikey_grant(\'servers\', \'fleet\')');
my $system = sql('SELECT system_identifier FROM pg_control_system()');
my $number = 0;
sub uuid { return sprintf '%08x-0000-4000-8000-%012x', ++$number, $number }
srand(4711);

# A server is a hash; its calls are made as its worker would make them.
sub join_primary
{
	my ($server, %how) = @_;
	my $new = $how{new} // uuid();
	my $tokens = join ',', map { "'$_'" } @{ $server->{tokens} };
	my $keep = $how{keep} ? 'true' : 'false';
	my ($known, $epoch, $sequence) = split /\|/, sql(
		"SELECT known, epoch, sequence FROM apikey_server_join('$server->{id}', ARRAY[$tokens]::uuid[], '$new', '$server->{name}', 'standby', '0.2.0', $system, $keep)");
	return 0 if $known eq 'f';
	@$server{qw(tokens epoch sequence)} = ([ $new, @{ $server->{tokens} }[ 0 .. 0 ] ], $epoch, $sequence);
	$server->{tokens} = [ grep { defined } @{ $server->{tokens} } ];
	return 1;
}
sub new_server { my $server = { id => uuid(), name => shift, tokens => [] }; join_primary($server); return $server }
my $nothing = join ', ', ("'{}'") x 9;
# Uses of keys by id, as the report of a number.
sub report
{
	my ($server, $sequence, %uses) = @_;
	my @keys = keys %uses;
	my $list = sub { return "'{" . join(',', @_) . "}'" };
	return sprintf "SELECT apikey_server_report('%s', %d, %d, NULL, %s, %s, %s, %s, %s, $nothing)", $server->{id}, $server->{epoch}, $sequence,
		$list->(@keys), $list->(@uses{@keys}), $list->((0) x @keys), $list->(('NULL') x @keys), $list->(('NULL') x @keys);
}
sub lease
{
	my ($server, $account, $new, $held_number, $held, $least, $most) = @_;
	return sprintf "SELECT state, number, granted, left_over, remaining_ms IS NULL FROM apikey_server_lease('%s', %d, '{%s}', '{%d}', '{%d}', '{%d}', '{%d}', '{%d}', '{f}')",
		$server->{id}, $server->{epoch}, $account, $new, $held_number, $held, $least, $most;
}
sub give_back
{
	my ($server, $account, $lease, $unspent) = @_;
	return sprintf "SELECT apikey_server_return('%s', %d, '{%s}', '{%d}', '{%d}')", $server->{id}, $server->{epoch}, $account, $lease, $unspent;
}
sub fails { my ($query, $code, $name) = @_; my ($rc, $out, $err) = $node->psql('postgres', $query, extra_params => [ '-v', 'VERBOSITY=verbose' ]); like($err, qr/ERROR:  $code: /, $name); return $err }
sub left { return sql("SELECT credits FROM apikeys WHERE id = '$_[0]'") }

note 'Reports.';
my @keys = map { sql("SELECT apikey_id(apikey_create('key-$_'))") } 1 .. 5;
my @servers = map { new_server("s$_") } 1 .. 3;
my %expected = map { $_ => 0 } @keys;
my %batch;
for my $round (1 .. 60)
{
	my $server = $servers[ rand @servers ];
	# A batch that is not known to have arrived comes again, under its number.
	my $batch = $server->{pending} //= { number => ++$server->{last}, uses => { map { $_ => 1 + int rand 9 } grep { rand() < 0.6 } @keys } };
	my $luck = rand;
	if ($luck < 0.15)    # lost on the way there
	{ }
	elsif ($luck < 0.3)    # broken off in the middle
	{ $node->psql('postgres', "BEGIN; " . report($server, $batch->{number}, %{ $batch->{uses} }) . '; ROLLBACK') }
	elsif ($luck < 0.5)    # the answer is lost
	{ sql(report($server, $batch->{number}, %{ $batch->{uses} })) }
	else
	{
		sql(report($server, $batch->{number}, %{ $batch->{uses} }));
		$expected{$_} += $batch->{uses}{$_} for keys %{ $batch->{uses} };
		delete $server->{pending};
	}
	if (rand() < 0.1)    # it connects again: what has arrived it is told
	{
		ok(join_primary($server, keep => 1), "round $round: it joins again");
		my $batch = $server->{pending};
		if ($batch && $server->{sequence} >= $batch->{number})
		{
			$expected{$_} += $batch->{uses}{$_} for keys %{ $batch->{uses} };
			delete $server->{pending};
		}
	}
	if ($round % 20 == 0)
	{
		$node->stop('immediate');
		$node->start;
	}
}
for my $server (@servers)
{
	my $batch = $server->{pending} or next;
	sql(report($server, $batch->{number}, %{ $batch->{uses} }));
	$expected{$_} += $batch->{uses}{$_} for keys %{ $batch->{uses} };
}
is(sql("SELECT use_count FROM apikeys WHERE id = '$_'"), $expected{$_}, 'counted to the last') for @keys;

note 'Rows that somebody has, and calls that come late.';
{
	my $server = $servers[0];
	my $number = ++$server->{last};
	my $holder = $node->background_psql('postgres');
	$holder->query_safe("BEGIN; SELECT apikey_delete('$keys[1]', 'key-2'); SELECT apikey_delete('$keys[3]', 'key-4')");
	my $error = fails(report($server, $number, map { $_ => 1 } @keys), '55P03', 'a row is locked');
	my ($detail) = $error =~ /DETAIL:  (\S+)/;
	is($detail, join(',', sort @keys[ 1, 3 ]), 'the keys in the way are named');
	# All databases of a member wait for an answer.
	my $call = report($server, $number, map { $_ => 1 } @keys);
	my ($quickest) = sort { $a <=> $b } map { sql(qq{DO \$\$ DECLARE begun timestamptz := clock_timestamp();
		BEGIN EXECUTE \$call\$$call\$call\$;
		EXCEPTION WHEN lock_not_available THEN PERFORM set_config('my.took', extract(epoch FROM clock_timestamp() - begun)::text, false); END\$\$;
		SELECT 1000 * current_setting('my.took')::numeric}) } 1 .. 5;
	cmp_ok($quickest, '<', 100, 'they are waited for no longer than a moment');
	is(sql(report($server, $number, map { $_ => 1 } @keys[ 0, 2, 4 ])), 't', 'without them it is applied, by the same number');
	$holder->query_safe('ROLLBACK');
	$holder->quit;
	is(sql(report($server, $number + 1, map { $_ => 1 } @keys[ 1, 3 ])), 't', 'and they by the next');
	$server->{last} = $number + 1;
	is(sql("SELECT use_count FROM apikeys WHERE id = '$_'"), $expected{$_} + 1, 'each once') for @keys;
	my $late = report($server, 1000, $keys[0] => 1000);
	join_primary($server, keep => 1);
	fails($late, '55000', 'a call of an epoch that is over');
	sql(report($server, ++$server->{last}, $keys[0] => 0));
}

note 'Of two copies with one identity one goes on.';
{
	my $original = new_server('copied');
	sql(report($original, 1, $keys[0] => 10));
	my $copy = { %$original, tokens => [ @{ $original->{tokens} } ] };
	ok(join_primary($copy), 'the copy is first');
	ok(!join_primary($original), 'then the original is somebody else');
	fails(report($original, 2, $keys[0] => 10), '55000', 'and reports nothing');
	is($copy->{sequence}, 1, 'the copy knows what was reported');
}

note 'Leases: never more than there is.';
my $metered = sql("SELECT apikey_id(apikey_create('metered', credits => 1000))");
{
	my ($one, $two) = @servers[ 1, 2 ];
	is(sql(lease($one, $metered, 11, 0, 0, 1, 5000)), 'fresh|11|100|900|t', 'a tenth at most, but a hundred');
	is(sql(lease($one, $metered, 11, 0, 0, 1, 5000)), 'fresh|11|100|900|t', 'the answer was lost: the same');
	is(left($metered), 900, 'and taken once');
	is(sql(lease($one, $metered, 12, 11, 40, 50, 50)), 'granted|12|50|850|t', 'more, beside what it holds');
	is(sql(lease($one, $metered, 12, 11, 40, 50, 50)), 'granted|12|50|850|t', 'the same again');
	is(sql(lease($two, $metered, 21, 0, 0, 700, 700)), 'fresh|21|700|150|t', 'who waits gets what it waits for');
	is(sql(lease($two, $metered, 22, 21, 700, 200, 200)), 'short|21|0|150|t', 'or nothing');
	is(sql(lease($two, $metered, 23, 999, 5, 0, 10)), 'fresh|23|10|140|t', 'what it holds without having it is void');
	is(sql("SELECT leased FROM apikey_servers WHERE name = 's2'"), '{"requests": 90}', 'what is leased');
	is(sql(give_back($one, $metered, 12, 30)), 1, 'what was not spent');
	is(left($metered), 170, 'comes back');
	is(sql(give_back($one, $metered, 12, 30)), 0, 'once');
	is(left($metered), 170, 'and not again');
	is(sql(give_back($two, $metered, 23, 500)), 1, 'no more comes back');
	is(left($metered), 180, 'than was leased');
	is(sql(lease($one, $metered, 13, 0, 0, 60, 60)), 'fresh|13|60|120|t', 'leased');
	sql("UPDATE apikeys SET credits = 500 WHERE id = '$metered'");
	is(sql(give_back($one, $metered, 13, 60)), 1, 'of credits that were set anew since');
	is(left($metered), 500, 'nothing comes back');
	my $twice = sub { sprintf "SELECT state, number, granted, left_over FROM apikey_server_lease('%s', %d, '{%s,%s}', '{%d,%d}', '{0,0}', '{0,0}', '{10,20}', '{10,20}', '{f,f}')",
		$one->{id}, $one->{epoch}, $metered, $metered, @_ };
	is(sql($twice->(131, 131)), "fresh|131|10|490\nfresh|131|10|490", 'what is asked for twice under one number is answered alike');
	is(left($metered), 490, 'and leased once');
	fails($twice->(132, 133), '22023', 'under two numbers it is not');
	is(sql(give_back($one, $metered, 131, 10)), 1, 'given back');
	is(sql(lease($one, $metered, 14, 0, 0, 60, 60)), 'fresh|14|60|440|t', 'leased');
	sql("UPDATE apikeys SET credits = 500 WHERE id = '$metered'");
	is(sql(lease($one, $metered, 15, 14, 60, 0, 60)), 'fresh|15|60|440|t', 'and what it holds is void');
	ok(join_primary($one, keep => 0), 'a server that starts anew');
	is(sql(give_back($one, $metered, 15, 60)), 0, 'has nothing');
	is(left($metered), 440, 'what it had is forfeited');
	is(sql(lease($one, $metered, 16, 0, 0, 40, 40)), 'fresh|16|40|400|t', 'leased');
	sql("UPDATE apikey_server_lease SET granted_at = now() - interval '25 hours'");
	ok($node->poll_query_until('postgres', "SELECT apikey_flush() IS NOT NULL AND NOT EXISTS (SELECT FROM apikey_server_lease)"), 'after a day it is forfeited');
	is(left($metered), 400, 'to nobody');
	is(sql(lease($two, 'ffffffff-0000-4000-8000-000000000000', 1, 0, 0, 1, 1)), 'gone|0|0||t', 'no such account');
	my $holder = $node->background_psql('postgres');
	$holder->query_safe("BEGIN; SELECT apikey_credits_add('$metered', 1)");
	is(sql(lease($two, $metered, 31, 0, 0, 1, 1)), 'busy|0|0||t', 'whose row somebody has');
	$holder->query_safe('ROLLBACK');
	$holder->quit;
}
{
	my $limit = sql("SELECT apikey_limit_set('tokens', 500, '1 day', 'quota', key => '$metered')");
	my $two = $servers[2];
	like(sql(lease($two, $limit, 41, 0, 0, 50, 50)), qr/^fresh\|41\|50\|450\|f$/, 'a quota, until its period ends');
	is(sql("SELECT leased FROM apikey_servers WHERE name = 's3'"), '{"tokens": 50}', 'by its unit');
	is(sql(give_back($two, $limit, 41, 50)), 1, 'and back');
	is(sql("SELECT remaining FROM apikey_limits WHERE id = '$limit'"), 500, 'whole');
	sql(lease($two, $limit, 42, 0, 0, 410, 410));
	sql(lease($two, $limit, 43, 42, 410, 80, 80));
	like(sql(lease($two, $limit, 44, 43, 490, 20, 20)), qr/^short/, 'less than that is left');
	is(sql("SELECT string_agg(event || ' ' || (detail->>'remaining'), ', ' ORDER BY id) FROM apikey_events WHERE event IN ('limit_low', 'limit_exhausted')"),
		'limit_low 90', 'it is low, and not exhausted');
	sql(lease($two, $limit, 45, 43, 490, 10, 10));
	like(sql(lease($two, $limit, 46, 45, 500, 20, 20)), qr/^short/, 'nothing is left');
	is(sql("SELECT string_agg(event || ' ' || (detail->>'remaining'), ', ' ORDER BY id) FROM apikey_events WHERE event IN ('limit_low', 'limit_exhausted')"),
		'limit_low 90, limit_exhausted 0', 'both are told, once');
}

note 'All at once: this server and the others, until nothing is left.';
{
	my $key = sql("SELECT apikey_create('shared', credits => 3000)");
	my $id = sql("SELECT apikey_id('$key')");
	my %held = map { $_ => [ 0, 0 ] } 0 .. 2;
	my ($spent, $number) = (0, 100);
	for (1 .. 200)
	{
		if (rand() < 0.3)
		{
			my $valid = sql("SELECT count(*) FROM generate_series(1, 20) g, LATERAL apikey_verify('$key', cost => CASE WHEN g > 0 THEN 1 END) v WHERE v.valid");
			$spent += $valid;
			next;
		}
		my $which = int rand 3;
		my ($lease, $amount) = @{ $held{$which} };
		my ($state, $new, $granted) = split /\|/, sql(lease($servers[$which], $id, ++$number, $lease, $amount, int rand 60, 200));
		$amount = 0 if $state =~ /fresh|void/;
		$amount += $granted;
		my $now = int rand($amount + 1);
		$spent += $now;
		$held{$which} = [ $state =~ /granted|fresh/ ? $number : $lease, $amount - $now ];
		if (rand() < 0.2 && $held{$which}[0])
		{
			sql(give_back($servers[$which], $id, @{ $held{$which} }));
			$held{$which} = [ 0, 0 ];
		}
	}
	$held{$_}[0] && sql(give_back($servers[$_], $id, @{ $held{$_} })) for keys %held;
	sql('SELECT apikey_flush()');
	is($spent + left($id), 3000, "of 3000 none is lost and none is spent twice ($spent spent)");
}

note 'Shared rates: the primary hands out tokens.';
sub take
{
	my ($server, $limit, $least, $most, $charging) = @_;
	return split /\|/, sql(sprintf "SELECT granted, wait_ms FROM apikey_server_take('%s', %d, '{%s}', '{%d}', '{%d}', '{%s}')",
		$server->{id}, $server->{epoch}, $limit, $least, $most, $charging ? 't' : 'f');
}
{
	my $key = sql("SELECT apikey_create('rated')");
	my $set = sub { return sql("SELECT apikey_limit_set('$_[0]', 3600, '1 hour', key => apikey_id('$key'), shared => true)") };
	my ($one, $two) = @servers[ 1, 2 ];
	my $hourly = $set->('requests');
	$node->stop('immediate');
	$node->start;
	my $begun = time;
	my ($granted) = take($one, $hourly, 0, 3600);
	my $elapsed = time - $begun;
	cmp_ok($granted, '<=', $elapsed + 2, 'after a crash only what comes back passes');
	is(sql("SELECT code FROM apikey_verify('$key', cost => 3600)"), 'rate_limited', 'on the primary as well');
	sql("SELECT apikey_check((SELECT apikey_create('crashed')))");
	sql('SELECT apikey_flush()');
	is(sql("SELECT string_agg(name || ' as ' || role, ', ') FROM apikey_servers WHERE name ~ '^primary'"), 'primary as primary', 'which is listed once, under its name');

	$node->restart;
	($granted) = take($one, $hourly, 0, 3600);
	cmp_ok($granted, '<=', time - $begun + 3, 'after a clean restart it goes on');
	my $other = $set->('pages');
	is((take($one, $other, 1000, 1000))[0], 1000, 'a new one is full');
	is((take($two, $other, 2600, 2600))[0], 2600, 'for all servers together') or diag $granted;
	my ($none, $wait) = take($one, $other, 100, 100);
	is($none, 0, 'then there is nothing');
	cmp_ok($wait, '>', 60_000, 'for as long as so many take');
	cmp_ok($wait, '<=', 100_000, 'and no longer');
	is((take($two, $other, 500, 500, 1))[0], 500, 'a charge goes into debt');
	is((take($two, $other, 5000, 5000, 1))[0] < 3200, 1, 'once');
	is_deeply([ take($one, $metered, 1, 1) ], [0], 'no such rate');
	my $alone = sql("SELECT apikey_limit_set('alone', 10, '1 hour', key => apikey_id('$key'))");
	is_deeply([ take($one, $alone, 1, 1) ], [0], 'nor is one that is not shared');

	# So many at once and then evenly, whoever asks.
	my $fast = sql("SELECT apikey_limit_set('fast', 100, '2 seconds', key => apikey_id('$key'), shared => true)");
	my ($total, $start) = (0, time);
	while (time < $start + 3)
	{
		my ($some) = take($servers[ rand @servers ], $fast, 1, 1 + int rand 40);
		$total += $some;
	}
	my $bound = 100 + (time - $start) * 50;
	cmp_ok($total, '<=', $bound + 1, "no more than the bound ($total of $bound)");
	cmp_ok($total, '>=', 0.8 * $bound, 'and not much less');
}

note 'A server that is silent is lost, and forgotten.';
ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM apikey_events WHERE event = 'server_lost' AND detail->>'server' = 'copied')"), 'lost');
is(sql("SELECT severity FROM apikey_health() WHERE name = 'servers'"), 'warning', 'health tells');
fails(report($servers[0], 1_000_000, $keys[0] => -1), '22023', 'no such number of uses');
is(sql("SELECT apikey_server_forget('copied')"), 't', 'forgotten');

note 'A standby that is promoted knows all of it.';
{
	$primary->backup('backup');
	my $standby = PostgreSQL::Test::Cluster->new('standby');
	$standby->init_from_backup($primary, 'backup', has_streaming => 1);
	$standby->start;
	my $one = $servers[0];
	ok(join_primary($one, keep => 0), 'it joins');
	my $number = $one->{sequence} + 1;
	sql(report($one, $number, $keys[0] => 100));
	sql(lease($one, $metered, 51, 0, 0, 40, 40));
	my $rated = sql("SELECT apikey_limit_set('pages', 3600, '1 hour', key => '$keys[0]', shared => true)");
	is((take($one, $rated, 3600, 3600))[0], 3600, 'it takes all of a rate');
	my ($uses, $left) = (sql("SELECT use_count FROM apikeys WHERE id = '$keys[0]'"), left($metered));
	$primary->wait_for_catchup($standby);
	is($standby->safe_psql('postgres', "SELECT count(*) FROM apikey_servers WHERE name = 's1'"), 1, 'a standby shows it');
	fails_on($standby, report($one, $number, $keys[0] => 100));
	$primary->stop('immediate');
	$standby->promote;
	$node = $standby;
	is(sql(report($one, $number, $keys[0] => 100)), 'f', 'what was reported is known');
	is(sql("SELECT use_count FROM apikeys WHERE id = '$keys[0]'"), $uses, 'and counts once');
	is(sql(lease($one, $metered, 51, 0, 0, 40, 40)), "fresh|51|40|$left|t", 'what was leased is');
	is(sql(give_back($one, $metered, 51, 40)), 1, 'and comes back');
	is(left($metered), $left + 40, 'all of it');
	sql("SELECT code FROM apikey_verify((SELECT apikey_create('late'))) \\g /dev/null\nSELECT apikey_flush()");
	is(sql("SELECT count(*) FROM apikey_servers WHERE role = 'primary'"), 1, 'there is one primary');
	my ($begun, $granted) = (time, (take($one, $rated, 0, 3600))[0]);
	cmp_ok($granted, '<=', time - $begun + 1, 'what the old primary has handed out is not handed out again');
	$standby->stop;
}
sub fails_on
{
	my ($where, $query) = @_;
	my ($rc, $out, $err) = $where->psql('postgres', $query, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	like($err, qr/ERROR:  55000: cannot execute apikey_server_report\(\) during recovery/, 'a standby takes no reports');
}
done_testing();
