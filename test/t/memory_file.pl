# What gathers in memory outlives a clean stop by its file: of this server, of
# this life, whole or not at all; and nothing else is taken for such a file.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::RecursiveCopy;
use PostgreSQL::Test::Utils;
use Test::More;

my $conf = q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'
};
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', $conf);
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION apikey CASCADE');
sub sql { return $node->safe_psql('postgres', @_) }
my $file = $node->data_dir . '/pg_stat/apikey.stat';

my $key = sql(q{SELECT apikey_create('one', rate_limit => 1000, rate_window => '31 days')});
my $spent = sql(q{SELECT apikey_create('spent', rate_limit => 1, rate_window => '31 days')});
my $uses = q{SELECT use_count, denied_count FROM apikeys WHERE name = 'one'};
sub use_it { return sql("SELECT count(*) FROM generate_series(1, $_[0]) i, apikey_verify('$key' || repeat('', i)) WHERE valid") }
sub code { return sql("SELECT code FROM apikey_verify('$_[0]', cost => 1)") }
# Where the stop of a server has nothing to keep, it leaves an empty file.
sub stop_with_uses
{
	use_it($_[0]);
	$node->stop;
	ok(-e $file, 'a clean stop leaves the file');
}

is(code($spent), 'valid', 'a limit is spent');
stop_with_uses(3);
$node->start;
is(sql($uses), '3|0', 'the next start has the counts');
is(code($spent), 'rate_limited', 'and the limits');
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_ls_dir('pg_stat') f WHERE f = 'apikey.stat'"), 'which the file has given up');

# An immediate stop ends with 0, too: whatever it would write, processes that
# were killed may be in the middle of.
use_it(2);
$node->stop('immediate');
ok(!-e $file, 'an immediate stop leaves none');
$node->start;
is(sql($uses), '0|0', 'a crash loses what was not flushed');
is(code($spent), 'valid', 'and the limits');

# A start that fails takes nothing away.
stop_with_uses(4);
my $hba = slurp_file($node->data_dir . '/pg_hba.conf');
append_to_file($node->data_dir . '/pg_hba.conf', "broken\n");
is($node->start(fail_ok => 1), 0, 'a start that fails');
ok(-e $file, 'leaves the file');
unlink $node->data_dir . '/pg_hba.conf';
append_to_file($node->data_dir . '/pg_hba.conf', $hba);
$node->start;
is(sql($uses), '4|0', 'to the next');

# Without the library for a while, the file is of another life.
stop_with_uses(1);
my $kept = slurp_file($file);
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$node->start;
$node->stop;
is(slurp_file($file), $kept, 'nobody has touched the file');
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'apikey'");
$node->start;
is(sql($uses), '0|0', 'but it is not used');

# CRC-32C, as in the file.
sub crc
{
	my ($data) = @_;
	my $crc = 0xFFFFFFFF;
	for my $byte (unpack 'C*', $data)
	{
		$crc ^= $byte;
		$crc = $crc & 1 ? ($crc >> 1) ^ 0x82F63B78 : $crc >> 1 for 1 .. 8;
	}
	return pack 'L', $crc ^ 0xFFFFFFFF;
}

# A file by hand, with right checksums: the header without them, and the slots.
sub by_hand
{
	my ($header, $slots) = @_;
	my $head = substr($header, 0, 88) . crc($slots);
	return $head . crc($head) . $slots;
}
sub with { my ($text, $at, $new) = @_; substr($text, $at, length $new) = $new; return $text }

# Torn, cut and hand-made files; the last are as they were, and are used.
my %bad = (
	'cut in the header' => sub { substr($_[0], 0, 20) },
	'empty' => sub { '' },
	'cut in a slot' => sub { substr($_[0], 0, length($_[0]) - 10) },
	'with a slot less' => sub { substr($_[0], 0, 96) },
	'longer' => sub { $_[0] . 'x' },
	'with a byte changed' => sub { with($_[0], 99, chr(ord(substr($_[0], 99, 1)) ^ 1)) },
	'with another magic' => sub { with($_[0], 0, 'APK4') },
	'with more slots than there are' => sub { by_hand(with($_[0], 24, pack 'Q', 2**60), substr($_[0], 96)) },
	'of slots of another size' => sub { by_hand(with($_[0], 4, pack 'L', 8), substr($_[0], 96)) },
	'with counts beyond all' => sub { by_hand($_[0], with(substr($_[0], 96), 24, pack 'Q', 2**63)) },
	'with a time that is none' => sub { by_hand($_[0], with(substr($_[0], 96), 40, pack 'q', -5)) },
	'with a code that is none' => sub { by_hand($_[0], with(substr($_[0], 96), 100, chr 200)) },
	'with an address that is none' => sub { by_hand($_[0], with(substr($_[0], 96), 48, "\1\2\200")) },
	'with more members than there are' => sub { by_hand(with($_[0], 32, pack 'Q', 7), substr($_[0], 96)) },
	'with more reveals than there are' => sub { by_hand(with($_[0], 40, pack 'Q', 7), substr($_[0], 96)) },
	'in no database' => sub { by_hand($_[0], with(substr($_[0], 96), 0, pack 'L', 0)) });
for my $name (sort keys %bad)
{
	use_it(1);
	$node->stop;
	my $content = slurp_file($file);
	my $offset = -s $node->logfile;
	unlink $file;
	append_to_file($file, $bad{$name}->($content));
	$node->start;
	like(slurp_file($node->logfile, $offset), qr{LOG:  file "pg_stat/apikey.stat" is damaged and is not used}, "a file $name is refused");
	is(sql($uses), '0|0', 'and nothing of it used');
}
stop_with_uses(2);
my $content = slurp_file($file);
unlink $file;
append_to_file($file, by_hand($content, substr($content, 96)));
$node->start;
is(sql($uses), '2|0', 'one by hand that is as it was is used');

# A copy of a server that was shut down.
my $metered = sql(q{SELECT apikey_create('metered', credits => 1000)});
is(code($metered), 'valid', 'credits are leased');
is(code($spent), 'valid', 'a limit is spent');
$node->stop;
PostgreSQL::Test::RecursiveCopy::copypath($node->data_dir, $node->data_dir . '.copy',
	filterfn => sub { return $_[0] ne 'postmaster.opts' });
my $copy = PostgreSQL::Test::Cluster->new('copy');
mkdir $copy->basedir;
rename $node->data_dir . '.copy', $copy->data_dir or die $!;
chmod 0700, $copy->data_dir;
$copy->append_conf('postgresql.conf', 'port = ' . $copy->port . "\nunix_socket_directories = '" . $copy->host . "'");
$copy->set_standby_mode;
$copy->start;
is($copy->safe_psql('postgres', "SELECT code FROM apikey_verify('$metered')"), 'unavailable', 'a copy, as a standby, spends no lease');
is($copy->safe_psql('postgres', "SELECT code FROM apikey_verify('$spent')"), 'rate_limited', 'its limits hold');
is($copy->safe_psql('postgres', $uses), '0|0', 'counts are those of who goes on with them');
is($copy->safe_psql('postgres', 'SELECT not_attributed > 0 FROM apikey_stats'), 't', 'here they are told as not attributed');
$copy->stop;
$node->start;
is(sql($uses), '2|0', 'that is the other one');
is(code($metered), 'valid', 'which spends the lease');

# A standby, where nothing can be flushed.
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->append_conf('postgresql.conf', q{
apikey.flush_interval = '100ms'
restart_after_crash = on
});
$standby->start;
my $standby_file = $standby->data_dir . '/pg_stat/apikey.stat';
is($standby->safe_psql('postgres', $uses), '0|0', 'a base backup brings no counts of others along');
sub use_standby { return $standby->safe_psql('postgres', "SELECT count(*) FROM generate_series(1, $_[0]) i, apikey_verify('$key' || repeat('', i)) WHERE valid") }

# Waits until the file is younger than what has been done.
sub wait_for_newer_file
{
	my $seen = 0;
	my $before = -e $standby_file ? slurp_file($standby_file) : '';
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return 1 if -e $standby_file && slurp_file($standby_file) ne $before;
		select undef, undef, undef, 0.1;
	}
	return 0;
}
use_standby(16);
ok(wait_for_newer_file(), 'a standby writes its file as it goes');
my $killed = $standby->background_psql('postgres');
my $pid = $killed->query_safe('SELECT pg_backend_pid()');
my $offset = -s $standby->logfile;
kill 'KILL', $pid;
eval { $killed->quit };
for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	last if slurp_file($standby->logfile, $offset) =~ /accept read-only connections/;
	select undef, undef, undef, 0.1;
}
ok($standby->poll_query_until('postgres', 'SELECT pg_is_in_recovery()'), 'after the crash of a process');
is($standby->safe_psql('postgres', $uses), '16|0', 'it has its counts');
use_standby(4);
$standby->restart;
is($standby->safe_psql('postgres', $uses), '20|0', 'after a clean restart, too');
use_standby(1);
wait_for_newer_file();
$standby->stop('immediate');
$standby->start;
is($standby->safe_psql('postgres', $uses), '21|0', 'and after an immediate stop');

# What is not its own, of a base backup of a standby.
$standby->backup('backup');
my $second = PostgreSQL::Test::Cluster->new('second');
$second->init_from_backup($standby, 'backup', has_streaming => 1);
$second->start;
is($second->safe_psql('postgres', $uses), '0|0', 'a base backup of a standby brings nothing along');
$second->stop('immediate');
$second->start;
is($second->safe_psql('postgres', $uses), '0|0', 'nor after a crash');
$second->stop;

# Once promoted, the counts reach the table, once.
$node->stop;
$standby->promote;
ok($standby->poll_query_until('postgres', q{SELECT use_count = 21 FROM apikey_usage u JOIN apikey_key k USING (id) WHERE k.name = 'one'}),
	'the counts of a promoted standby reach the table');
ok(!-e $standby_file, 'and the file is gone');
$standby->stop('immediate');
$standby->start;
is($standby->safe_psql('postgres', $uses), '21|0', 'they are not counted twice after a crash');
$standby->stop;
done_testing();
