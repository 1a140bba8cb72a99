# Killed at any instant, the server keeps what it has acknowledged: 8 clients
# at work, the postmaster or a single process of it is killed with signal 9,
# and after recovery everything is asked for.  3 kills, or 20 in the long form.
use strict;
use warnings;
use lib 'test';
use Crash;
use IPC::Open2;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $clients = 8;
my $kills = $ENV{APIKEY_TEST_LONG} ? 20 : 3;
my $patience = $PostgreSQL::Test::Utils::timeout_default;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '200ms'
restart_after_crash = on
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION apikey CASCADE');
my $dir = PostgreSQL::Test::Utils::tempdir();
my $sure_uses = 0;
my $granted = 20;
my %spent;

# What a client does: each operation is one statement that returns one line.
# "ask" makes it, or nothing where it has no use now; "done" is told the line,
# changes what the client knows, and returns what is to be found again.
my %operations = (
	create => {
		ask => sub { my ($c) = @_; return "SELECT apikey_create('$c->{name}-" . ++$c->{made} . "')" },
		done => sub { my ($c, $line) = @_; push @{ $c->{keys} }, $line; return $line },
	},
	undone => {
		ask => sub { my ($c) = @_; return "BEGIN; SELECT apikey_create('$c->{name}-x" . ++$c->{made} . "'); ROLLBACK" },
		done => sub { return $_[1] },
	},
	verify => {
		ask => sub { my ($c) = @_; $c->{key} = pick($c) or return; return "SELECT code FROM apikey_verify('$c->{key}')" },
		done => sub { my ($c, $line) = @_; return "$c->{key} $line" },
	},
	revoke => {
		ask => sub {
			my ($c) = @_;
			return if @{ $c->{keys} } < 4;
			$c->{key} = shift @{ $c->{keys} };
			return "SELECT apikey_revoke(apikey_id('$c->{key}'), 'crash')";
		},
		done => sub { return $_[0]->{key} },
	},
	rotate => {
		ask => sub { my ($c) = @_; $c->{key} = shift @{ $c->{keys} } or return; return "SELECT apikey_rotate(apikey_id('$c->{key}'))" },
		done => sub { my ($c, $line) = @_; push @{ $c->{keys} }, $line; return "$c->{key} $line" },
	},
	grant => {
		ask => sub { my ($c) = @_; return "SELECT apikey_create('$c->{name}-m" . ++$c->{made} . "', credits => $granted)" },
		done => sub { my ($c, $line) = @_; push @{ $c->{metered} }, $line; return $line },
	},
	spend => {
		ask => sub {
			my ($c) = @_;
			$c->{key} = $c->{metered}[ rand @{ $c->{metered} } ] or return;
			return "SELECT code FROM apikey_verify('$c->{key}')";
		},
		done => sub { my ($c, $line) = @_; return "$c->{key} $line" },
	},
	flush => {
		ask => sub { return q{SELECT coalesce(extract(epoch FROM last_flush_at), 0) FROM apikey_stats} },
		done => sub { return $_[1] },
	});
my @mix = (qw(create verify verify verify verify revoke rotate undone grant spend spend spend spend spend spend flush));

sub pick { my ($c) = @_; return $c->{keys}[ rand @{ $c->{keys} } ] }

# A client: works until its connection ends, and writes down what it is about
# to do and what has been acknowledged: "time, operation, asked|done, what".
sub client
{
	my ($number, $round, $file) = @_;
	my %c = (name => "r$round-c$number", made => 0, keys => [], metered => []);
	srand($round * 100 + $number);
	$SIG{PIPE} = 'IGNORE';
	my $pid = open2(my $out, my $in, 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1',
		'-d', $node->connstr('postgres'));
	open my $log, '>', $file or die $!;
	$log->autoflush(1);
	while (1)
	{
		my $name = $mix[ rand @mix ];
		my $sql = $operations{$name}{ask}->(\%c) or next;
		printf $log "%.6f %s asked %s\n", time, $name, $c{key} // '-';
		print $in "$sql;\n" or last;
		$in->flush or last;
		my $line = <$out>;
		last if !defined $line;
		chomp $line;
		printf $log "%.6f %s done %s\n", time, $name, $operations{$name}{done}->(\%c, $line);
	}
	close $in;
	waitpid $pid, 0;
	require POSIX;
	POSIX::_exit(0);
}

sub start_clients
{
	my ($round) = @_;
	my %files;
	for my $number (1 .. $clients)
	{
		my $file = "$dir/$round-$number";
		my $pid = fork // die $!;
		client($number, $round, $file) if $pid == 0;
		$files{$pid} = $file;
	}
	return \%files;
}

sub lines_of { my ($file) = @_; open my $in, '<', $file or return (); return grep { /\n$/ } <$in> }

# The ends of flushes that clients have seen.
sub flushes
{
	my %ends = map { /^\S+ flush done (\S+)/ && $1 > 0 ? ($1 => 1) : () } @_;
	my @sorted = sort { $a <=> $b } keys %ends;
	return @sorted;
}

# The uses that were acknowledged before the flush before the last had ended:
# the last has collected them.
sub sure_uses
{
	my $end = (flushes(@_))[-2] // return;
	return grep { /^(\S+) (?:verify|spend) done \S+ valid$/ && $1 < $end } @_;
}

# Waits until each client has done so much, and some uses must be counted.
sub wait_for_work
{
	my ($files, $lines) = @_;
	my $end = time + $patience;
	while (grep({ lines_of($_) < $lines } values %$files)
		|| !grep { 1 } sure_uses(map { lines_of($_) } values %$files))
	{
		die 'the clients do not work' if time > $end;
		usleep(20_000);
	}
}

# The launcher is connected to no database, so no view shows it.
sub launcher
{
	my $postmaster = $node->{_pid};
	for my $process (glob '/proc/[0-9]*')
	{
		my ($pid) = $process =~ /(\d+)/;
		# It may be gone by now.
		my ($parent) = (eval { slurp_file("$process/stat") } // '') =~ /\) \S (\d+)/;
		return $pid
		  if ($parent // 0) == $postmaster && (eval { slurp_file("$process/cmdline") } // '') =~ /apikey launcher/;
	}
	die 'no launcher found';
}

sub kill_something
{
	my ($round) = @_;
	my $kind = ('postmaster', 'client', 'launcher')[ $round % 3 ];
	if ($kind eq 'postmaster')
	{
		kill_postmaster($node);
		return $kind;
	}
	my $pid = $kind eq 'launcher' ? launcher() : $node->safe_psql('postgres',
		q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
			ORDER BY random() LIMIT 1});
	is(kill('KILL', $pid), 1, "$kind killed");
	return $kind;
}

sub recover
{
	my ($kind) = @_;
	start_again($node) if $kind eq 'postmaster';
	return $node->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
}

# What the clients have written down: of each key its last acknowledged state,
# how often it was verified, surely flushed, and asked for at all; and of each
# with credits, how many were spent.
sub read_logs
{
	my ($files, $state, $uses) = @_;
	my @all = sort map { lines_of($_) } values %$files;
	my %sure = map { $_ => 1 } sure_uses(@all);
	for (@all)
	{
		my (undef, $operation, $step, $key, $result) = split;
		if ($step eq 'done')
		{
			@$state{$key, $result} = ('revoked', 'valid') if $operation eq 'rotate';
			$state->{$key} = 'valid or exhausted' if $operation eq 'grant';
			$spent{$key}++ if $operation eq 'spend' && $result eq 'valid';
			$state->{$key} = $operation eq 'create' ? 'valid' : $operation eq 'undone' ? 'not_found' : 'revoked'
			  if $operation =~ /^(create|undone|revoke)$/;
			is($result, 'valid', 'verified') if $operation eq 'verify' && $result ne 'valid';
			like($result, qr/^(valid|exhausted|unavailable)$/, 'spent')
			  if $operation eq 'spend' && $result !~ /^(valid|exhausted|unavailable)$/;
			$uses->{$key}{sure}++, $sure_uses++ if $sure{$_};
		}
		$state->{$key} = 'valid or revoked' if $step eq 'asked' && $operation =~ /^(revoke|rotate)$/;
		$uses->{$key}{most}++ if $step eq 'asked' && $operation =~ /^(verify|spend)$/;
	}
	return scalar @all;
}

# One line a key: its text, what it verifies as, its count of uses.
sub ask_all
{
	my @keys = @_;
	my $file = "$dir/ask.sql";
	open my $out, '>', $file or die $!;
	print $out "CREATE TEMP TABLE asked (key text);\nCOPY asked FROM STDIN;\n", map({ "$_\n" } @keys), "\\.\n";
	print $out q{SELECT a.key, v.code, coalesce(k.use_count, 0), coalesce(k.credits, 0) FROM asked a
		CROSS JOIN LATERAL apikey_verify(a.key, cost => 0) v LEFT JOIN apikeys k ON k.id = apikey_id(a.key);};
	close $out;
	my ($answers) = run_command([ 'psql', '-XAtq', '-F', ' ', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-f', $file ]);
	return map { my ($key, $code, $count, $credits) = split; ($key => { code => $code, count => $count, credits => $credits }) } split /\n/, $answers;
}

my $memory = q{SELECT name, size FROM pg_shmem_allocations WHERE name ILIKE 'apikey%' ORDER BY 1};
my $memory_before = $node->safe_psql('postgres', $memory);
isnt($memory_before, '', 'there is shared memory of ours');

my %state;
my %counted;
my $operations = 0;
for my $round (1 .. $kills)
{
	my $files = start_clients($round - 1);
	my %uses;
	wait_for_work($files, 100);
	my $kind = kill_something($round - 1);
	waitpid $_, 0 for keys %$files;
	ok(recover($kind), "round $round, $kind: the server is back");
	$operations += read_logs($files, \%state, \%uses);

	my %found = ask_all(sort keys %state);
	is_deeply([ grep { $state{$_} !~ /\b$found{$_}{code}\b/ } sort keys %state ], [],
		"round $round, $kind: what was acknowledged of " . keys(%state) . ' keys holds');
	is_deeply([ grep { $found{$_}{count} < ($counted{$_} // 0) + ($uses{$_}{sure} // 0) } sort keys %found ], [],
		"round $round, $kind: counts are short by one flush at most");
	is_deeply([ grep { $found{$_}{count} > ($counted{$_} // 0) + ($uses{$_}{most} // 0) } sort keys %found ], [],
		"round $round, $kind: and never too high");
	is_deeply([ grep { $spent{$_} > $granted - $found{$_}{credits} } sort keys %spent ], [],
		"round $round, $kind: no more credits are left than were granted and not spent");
	# What was in doubt is settled.
	$state{$_} = $found{$_}{code} for grep { $state{$_} eq 'valid or revoked' } keys %found;
	%counted = map { $_ => $found{$_}{count} } keys %found;

	is($node->safe_psql('postgres', $memory), $memory_before, "round $round, $kind: no more shared memory than before");
	is( $node->safe_psql('postgres', q{SELECT count(*) FROM pg_locks l WHERE pid <> pg_backend_pid() AND
			(relation IN (SELECT oid FROM pg_class WHERE relname ~ '^apikey') OR locktype = 'advisory')
			AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.pid)}),
		'0', "round $round, $kind: no lock is left");
}
note("$kills kills, $operations lines of operations, " . keys(%state) . " keys, $sure_uses uses that had to be counted");
cmp_ok($sure_uses, '>', 0, 'uses were flushed before the kills');
cmp_ok(scalar(keys %spent), '>', 0, 'credits were spent');

$node->stop;
done_testing();
