# Leases of credits: spent by one memory at most, whatever is copied, restarted,
# switched over or changed while the library is out; not lost where their worker
# is ended.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $settings = q{
apikey.flush_interval = '1h'
apikey.credits_lease = 200
max_prepared_transactions = 5
autovacuum = off
restart_after_crash = on
};
my $with = "shared_preload_libraries = 'apikey'";
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', $settings);
$node->append_conf('postgresql.conf', $with);
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION apikey CASCADE; CREATE ROLE anna');

sub create { my ($name, $more) = @_; return $node->safe_psql('postgres', "SELECT apikey_create('$name', $more)") }

# One verification; one that comes before the worker has answered is tried again.
sub verify
{
	my ($on, $key, $more) = @_;
	my $code;
	for (1 .. 50)
	{
		$code = $on->safe_psql('postgres', "SELECT code, credits FROM apikey_verify('$key'" . ($more // '') . ')');
		last if $code !~ /^unavailable/;
	}
	return $code;
}

# How many of so many verifications pass, in one session.
sub passed
{
	my ($on, $key, $times) = @_;
	return $on->safe_psql('postgres',
		"SELECT count(*) FROM generate_series(1, $times) i, apikey_verify(CASE WHEN i > 0 THEN '$key' END) v WHERE v.valid");
}

# The pids of the server's processes with such a title.
sub pids
{
	my ($title) = @_;
	my $postmaster = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
	my @found;
	for my $dir (glob '/proc/[0-9]*')
	{
		my ($status, $line) = ('', '');
		eval { $status = slurp_file("$dir/status"); $line = slurp_file("$dir/cmdline"); 1 } or next;
		push @found, $dir =~ /(\d+)$/ if $status =~ /^PPid:\s+$postmaster$/m && $line =~ /$title/;
	}
	return @found;
}
sub row { my ($on, $name, $columns) = @_; return $on->safe_psql('postgres', "SELECT $columns FROM apikey_credit c JOIN apikey_key k ON k.credits_account = c.id WHERE k.name = '$name'") }
sub left_of { my ($on, $name) = @_; return $on->safe_psql('postgres', "SELECT credits FROM apikeys WHERE name = '$name'") }

note 'Roles take turns: who asks for much has others served in between.';
{
	my %keys = map {
		my ($role, $count) = @$_;
		$role => [ split /\n/, $node->safe_psql('postgres', "CREATE ROLE $role; SET ROLE $role; SELECT apikey_create('$role-' || i, credits => 1000) FROM generate_series(1, $count) i") ]
	} [ many => 12 ], [ one => 1 ];
	# No worker comes before all have asked.
	my @stopped = map { pids("apikey $_") } 'launcher', 'worker';
	kill 'STOP', @stopped;
	my @codes = map {
		my $role = $_;
		map { ($node->psql('postgres', "SET ROLE $role; SELECT code FROM apikey_verify('$_')"))[1] } @{ $keys{$role} }
	} 'many', 'one';
	kill 'CONT', @stopped;
	is_deeply(\@codes, [ ('unavailable') x 13 ], 'each asks');
	my $leased = q{FROM apikey_credit c JOIN apikey_key k ON k.credits_account = c.id WHERE k.name ~ '^(many|one)-' AND c.lease IS NOT NULL};
	ok($node->poll_query_until('postgres', "SELECT count(*) = 13 $leased"), 'and has a lease in the end');
	like($node->safe_psql('postgres', "SELECT string_agg(split_part(k.name, '-', 1), ' ' ORDER BY c.xmin::text::bigint) $leased"), qr/^many one many many/, 'who asked once is the second');
}

note 'How much is leased.';
{
	my $key = create('size', 'credits => 50000');
	is(verify($node, $key, ', cost => 1000000'), 'exhausted|50000', 'more than there is');
	is(row($node, 'size', 'balance'), 50000, 'leases nothing');
	is(verify($node, $key), 'valid|49999', 'one');
	is(row($node, 'size', 'balance, leased'), '49800|200', 'leases what the setting says');
	is(verify($node, $key, ', cost => 5000'), 'valid|44999', 'one request that needs more');
	cmp_ok(row($node, 'size', 'balance'), '>=', 44799, 'takes what it needs, and a lease after it');
	is(verify($node, $key, ', cost => 1000000'), 'exhausted|44999', 'more than there is');
	cmp_ok(row($node, 'size', 'balance'), '>=', 44799, 'takes nothing');
	is(passed($node, $key, 1000), 1000, 'many');
	cmp_ok(row($node, 'size', 'leased'), '<=', 200, 'never more than the setting says');
	is(left_of($node, 'size'), 43999, 'all are counted');
}

note 'apikey_flush().';
{
	my $key = create('flushed', 'credits => 1000');
	is(verify($node, $key), 'valid|999', 'a lease is out');
	is($node->safe_psql('postgres', "SELECT use_count FROM apikey_usage u JOIN apikey_key USING (id) WHERE name = 'flushed'"), '', 'a use is pending');
	is($node->safe_psql('postgres', 'SELECT apikey_flush()'), '', 'returns nothing');
	is(row($node, 'flushed', 'balance, leased'), '999|0', 'the lease is given back');
	is($node->safe_psql('postgres', "SELECT use_count FROM apikey_usage u JOIN apikey_key USING (id) WHERE name = 'flushed'"), 1, 'the use is written');
	my ($rc, $out, $err) = $node->psql('postgres', 'SET ROLE anna; SELECT apikey_flush()', extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	like($err, qr/42501/, 'not for everybody');
	# Where it is used meanwhile, what comes back comes back.
	my $spender = $node->background_psql('postgres');
	like($spender->query_safe("BEGIN; SELECT code FROM apikey_verify('$key', cost => 50)"), qr/^valid/m, 'spent');
	$node->safe_psql('postgres', 'SELECT apikey_flush()');
	is(left_of($node, 'flushed'), 949, 'a spend that is open is not given back');
	$spender->query_safe('ROLLBACK');
	is(left_of($node, 'flushed'), 999, 'but when it is undone');
	$spender->quit;
}

note 'A copy of the data directory.';
{
	my $key = create('copied', 'credits => 1000');
	is(verify($node, $key), 'valid|999', 'a lease is out');
	$node->stop;
	$node->backup_fs_cold('cold');
	my $copy = PostgreSQL::Test::Cluster->new('copy');
	$copy->init_from_backup($node, 'cold', has_streaming => 1);
	# The copy comes up before its original has gone on.
	$copy->start;
	is(passed($copy, $key, 3), 0, 'as a standby it spends nothing');
	$node->start;
	my $spent = 1 + passed($node, $key, 50);
	is($spent, 51, 'the original goes on');
	$node->wait_for_catchup($copy);
	is(passed($copy, $key, 3), 0, 'still nothing');
	is(left_of($copy, 'copied'), row($node, 'copied', 'balance + leased'), 'it shows what was leased as left');
	$node->stop('immediate');
	$copy->promote;
	ok($copy->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()'), 'promoted');
	verify($copy, $key);
	cmp_ok(left_of($copy, 'copied'), '<=', 1000 - $spent, 'the copy goes on with what is in the row');
	$copy->stop;
	$node->start;
	verify($node, $key);
	cmp_ok(left_of($node, 'copied'), '<=', 1000 - $spent, 'and so does the original after a crash');
}

note 'A switchover, and credits that are set meanwhile.';
{
	my $key = create('switched', 'credits => 1000');
	my $kept = create('kept', 'credits => 1000');
	my $flushed = create('given', 'credits => 1000');
	is(verify($node, $_), 'valid|999', 'a lease is out') for $key, $kept;
	is(verify($node, $flushed), 'valid|999', 'another');
	$node->safe_psql('postgres', 'SELECT apikey_flush()');
	is(verify($node, $_), 'valid|998', 'and again') for $key, $kept;
	$node->backup('b');
	my $standby = PostgreSQL::Test::Cluster->new('standby');
	$standby->init_from_backup($node, 'b', has_streaming => 1);
	$standby->start;
	$node->wait_for_catchup($standby);
	is(left_of($standby, 'given'), 999, 'what was given back is there');
	is(left_of($standby, 'switched'), 999, 'what is leased is shown');
	my ($rc, $out, $err) = $standby->psql('postgres', 'SELECT apikey_flush()', extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	like($err, qr/55000.*\n.*HINT.*primary/s, 'nothing is flushed on a standby');
	$node->stop;
	$standby->promote;
	ok($standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()'), 'the standby is promoted');
	my $generation = $standby->safe_psql('postgres', "SELECT generation FROM apikey_credit c JOIN apikey_key k ON k.credits_account = c.id WHERE name = 'switched'");
	$standby->safe_psql('postgres', "UPDATE apikeys SET credits = 0 WHERE name = 'switched'");
	is($standby->safe_psql('postgres', "SELECT generation <> $generation, lease FROM apikey_credit c JOIN apikey_key k ON k.credits_account = c.id WHERE name = 'switched'"), 't|', 'set: another generation, no lease');
	is(verify($standby, $flushed), 'valid|998', 'what was given back is spent there');
	# The former primary, now a standby, has the leases in its file.
	$node->set_standby_mode;
	$node->enable_streaming($standby);
	$node->start;
	$standby->wait_for_catchup($node);
	is(passed($node, $_, 5), 0, 'the former primary spends nothing') for $key, $kept;
	is(left_of($node, 'switched'), 0, 'and shows the row');
	# And back again.
	is(verify($standby, $kept), 'valid|898', 'a lease that did not come back is lost');
	$standby->wait_for_catchup($node);
	$standby->stop;
	$node->promote;
	ok($node->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()'), 'back again');
	is(verify($node, $key), 'exhausted|0', 'none is left of what was set to 0');
	cmp_ok((split /\|/, verify($node, $kept))[1], '<=', 898, 'nor more of the other than its row had');
}

note 'Changes while the library is out.';
{
	my %key = map { $_ => create($_, 'credits => 1000') } qw(zero more spent);
	my $plan = create('plan', "credits => 1000, credits_refill => 1000, credits_interval => '1 day'");
	is(verify($node, $_), 'valid|999', 'a lease is out') for values %key, $plan;
	$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
	$node->restart;
	is(left_of($node, 'spent'), 900, 'without the library, the row');
	$node->safe_psql('postgres', "UPDATE apikeys SET credits = 0 WHERE name = 'zero'");
	$node->safe_psql('postgres', "UPDATE apikeys SET credits_interval = '2 days' WHERE name = 'plan'");
	$node->safe_psql('postgres', "SELECT apikey_credits_add(id, 5) FROM apikeys WHERE name = 'more'");
	is(verify($node, $key{spent}), 'valid|899', 'spent of the row');
	is($node->safe_psql('postgres', 'SELECT apikey_flush()'), '', 'nothing to flush');
	$node->append_conf('postgresql.conf', $with);
	$node->restart;
	is(verify($node, $key{zero}), 'exhausted|0', 'what was set holds');
	is(left_of($node, 'plan'), 900, 'another interval ends a lease');
	is(verify($node, $key{more}), 'valid|904', 'what was added is added; what was leased then was of another life');
	is(verify($node, $key{spent}), 'valid|898', 'what was spent is spent');
}

note 'What version 0.1.0 has left in its file.';
{
	my $key = create('old', 'credits => 1000');
	my $touched = create('touched', 'credits => 1000');
	my $write = sub {
		my ($database, @ids) = split /\|/, $node->safe_psql('postgres',
			"SELECT (SELECT oid FROM pg_database WHERE datname = 'postgres'), max(id::text) FILTER (WHERE name = 'old'), max(id::text) FILTER (WHERE name = 'touched') FROM apikeys");
		$node->stop;
		open my $file, '>:raw', $node->data_dir . '/pg_stat/apikey.stat' or die $!;
		print $file pack('L', 0x41504B34);
		# A lease of 99 credits, and three uses.
		print $file pack('L H32 x4 Q Q q C x18 x5 Q', $database, tr/-//dr, 3, 0, 0, 0, 0) . "\0" x 48 .
			pack('Q q q q x40 x12 x4', 77, 99, 50, 0x7FFFFFFFFFFFFFFF) for @ids;
		close $file;
		$node->start;
	};
	$node->safe_psql('postgres', "UPDATE apikey_credit c SET balance = 900, generation = NULL FROM apikey_key k WHERE c.id = k.credits_account AND name IN ('old', 'touched')");
	$node->safe_psql('postgres', "UPDATE apikeys SET credits = 5 WHERE name = 'touched'");
	$write->();
	ok(!-e $node->data_dir . '/pg_stat/apikey.stat', 'is taken once');
	is(left_of($node, 'old'), 999, 'a lease is still good');
	is(verify($node, $key), 'valid|998', 'and can be spent');
	is(verify($node, $touched), 'valid|4', 'not where the row was written since');
	is($node->safe_psql('postgres', "SELECT use_count FROM apikeys WHERE name = 'old'"), 4, 'uses are counted');
	$node->safe_psql('postgres', 'SELECT apikey_flush()');
	$write->();
	is(verify($node, $key), 'valid|997', 'the same file again is worth nothing');
}

note 'Without the library, from many sessions: exactly what was granted.';
{
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my $key = create('many', 'credits => 400');
	$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
	$node->restart;
	append_to_file("$dir/spend.sql", "INSERT INTO seen SELECT code FROM apikey_verify('$key');\n");
	$node->safe_psql('postgres', 'CREATE TABLE seen (code text)');
	$node->command_ok([ 'pgbench', '-n', '-c', '8', '-t', '100', '-f', "$dir/spend.sql", 'postgres' ], 'eight sessions');
	is($node->safe_psql('postgres', "SELECT count(*) FROM seen WHERE code = 'valid'") + left_of($node, 'many'), 400, 'never more, nor less');
	is($node->safe_psql('postgres', "SELECT count(*) FROM seen WHERE code NOT IN ('valid', 'exhausted', 'unavailable')"), 0, 'and nothing but that');
	$node->append_conf('postgresql.conf', $with);
	$node->restart;
}

note 'A worker, and a launcher, that are ended again and again.';
{
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my $key = create('ended', 'credits => 20000');
	append_to_file("$dir/spend.sql", "INSERT INTO seen SELECT code FROM apikey_verify('$key', cost => 20);\n");
	$node->safe_psql('postgres', 'TRUNCATE seen');
	my $load = IPC::Run::start([ 'pgbench', '-n', '-c', '4', '-T', '6', '-f', "$dir/spend.sql", '-d', $node->connstr('postgres') ], '>&', \my $out);
	for (1 .. 60)
	{
		kill 'TERM', pids('apikey worker'), $_ % 20 == 0 ? pids('apikey launcher') : ();
		$node->safe_psql('postgres', 'SELECT apikey_flush()') if $_ % 15 == 7;
		usleep(50_000);
	}
	$load->finish;
	like($out, qr/number of failed transactions: 0|number of transactions/, 'the sessions came to their end');
	my $valid = $node->safe_psql('postgres', "SELECT 20 * count(*) FROM seen WHERE code = 'valid'");
	cmp_ok($valid, '>', 1000, 'many passed');
	verify($node, $key);
	$node->safe_psql('postgres', 'SELECT apikey_flush()');
	my $more = $node->safe_psql('postgres', "SELECT balance FROM apikey_credit c JOIN apikey_key k ON k.credits_account = c.id WHERE name = 'ended'");
	cmp_ok(abs($valid + $more - 20000), '<=', 1, 'no credit is lost, nor spent twice') or diag("$valid valid, $more left");
}

note 'Killed: a crash costs a lease at most.';
{
	my $key = create('killed', 'credits => 5000');
	my $spent = 0;
	for my $round (1 .. 4)
	{
		$spent += passed($node, $key, 30);
		my $who = $round % 2 ? 'worker' : 'launcher';
		my ($pid) = pids("apikey $who");
		kill 'KILL', $pid;
		usleep(200_000);
		ok($node->poll_query_until('postgres', 'SELECT true'), "killed: $who");
	}
	$spent++ if verify($node, $key) =~ /^valid/;
	my $left = left_of($node, 'killed');
	cmp_ok($left + $spent, '<=', 5000, 'never more than granted');
	cmp_ok($left + $spent, '>=', 5000 - 4 * 200, 'a lease each');
}
$node->stop;
done_testing();
