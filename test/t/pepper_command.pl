# The pepper from a command: run once for the whole server at its start, after a
# crash and at each reload; what it prints is told nowhere.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $dir = PostgreSQL::Test::Utils::tempdir();
my $old = 'an old pepper, of more than 32 bytes in a line';
my $new = 'a new pepper, of more than 32 bytes in a line!';

# What the command does: notes that it ran, as what, and the rest.
sub command
{
	my ($does) = @_;
	open my $out, '>', "$dir/command" or die $!;
	print $out "echo run >>$dir/runs\n$does\n";
	close $out;
}
sub runs { return -e "$dir/runs" ? scalar(() = slurp_file("$dir/runs") =~ /run/g) : 0 }

command("echo '$old'; echo 'an aside: $old' >&2");
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', qq{
	shared_preload_libraries = 'apikey'
	apikey.pepper_command = 'exec sh $dir/command'});
$node->start;
sub sql { return $node->safe_psql('postgres', @_) }
sql('CREATE EXTENSION apikey CASCADE');
my $first = sql(q{SELECT apikey_create('first')});
is(sql("SELECT code FROM apikey_verify('$first')"), 'valid', 'a key under it') for 1 .. 3;
is(runs(), 1, 'run once, by the start');
isnt(sql("SELECT pepper FROM apikey_digest WHERE id = apikey_id('$first')"), '0', 'which hangs on it');

# At a reload it is run once more, and every session takes what it prints.
my @sessions = map { $node->background_psql('postgres') } 1 .. 3;
$_->query_safe("SELECT code FROM apikey_verify('$first')") for @sessions;
command("printf '$new\\r\\n\\n$old\\n'");
$node->reload;
my $moved = q{SELECT (SELECT fingerprint FROM apikey_peppers WHERE current) <> (SELECT fingerprint FROM apikey_peppers WHERE place = 3)};
ok($node->poll_query_until('postgres', $moved), 'the new one is current');
is($_->query_safe("SELECT code FROM apikey_verify('$first')"), 'valid', 'the old one is still accepted') for @sessions;
is($_->query_safe($moved), 't', 'in warm sessions') for @sessions;
$_->quit for @sessions;
is(runs(), 2, 'run once for all of them');
is(sql('SELECT place, current, keys FROM apikey_peppers ORDER BY place'), "1|t|0\n3|f|1", 'places are lines');

# A crash: it is run again.
$node->append_conf('postgresql.conf', 'restart_after_crash = on');
$node->reload;
my $pid = sql('SELECT pg_backend_pid()');
my $victim = $node->background_psql('postgres');
my $victim_pid = $victim->query_safe('SELECT pg_backend_pid()');
my $before = runs();
kill 9, $victim_pid;
eval { $victim->quit };
ok($node->poll_query_until('postgres', "SELECT code = 'valid' FROM apikey_verify('$first')"), 'after a crash');
cmp_ok(runs(), '>', $before, 'run by the new start');

# Where it fails nothing is decided.
for (['fails', "echo '$new'; exit 3", qr/The command ended with status 3\./],
	['is killed', "echo '$new'; kill -9 \$\$", qr/The command was ended by signal 9\./],
	['prints nothing', ':', qr/What the command prints holds no pepper\./],
	['prints too short a line', 'echo short', qr/What the command prints holds a pepper of less than 32 bytes\./],
	['prints without end', "yes '$new'", qr/What the command prints is longer than 64 kB\./],
	$ENV{APIKEY_TEST_LONG} ? ['does not end', "echo '$new'; sleep 100", qr/The command did not end within 10 seconds\./] : ())
{
	my ($what, $does, $why) = @$_;
	command($does);
	my $log = -s $node->logfile;
	$node->reload;
	$node->wait_for_log(qr/WARNING:  some API keys cannot be verified\n.*DETAIL:  $why/, $log);
	ok($node->poll_query_until('postgres', "SELECT code = 'unavailable' FROM apikey_verify('$first')"), "$what: unavailable");
	my ($result, $stdout, $stderr) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT apikey_create('late')");
	like($stderr, qr/ERROR:  55000: the peppers of "apikey.pepper_command" cannot be used/, "$what: creating");
	is(sql('SELECT severity FROM apikey_health() WHERE name = $$pepper$$'), 'critical', "$what: apikey_health");
}
command("echo '$new'; echo '$old'");
$node->reload;
ok($node->poll_query_until('postgres', "SELECT code = 'valid' FROM apikey_verify('$first')"), 'usable again');

# A standby runs its own.
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
is($standby->safe_psql('postgres', "SELECT code FROM apikey_verify('$first')"), 'valid', 'on a standby');
command("echo 'another pepper, that no key hangs on, and long enough'");
$standby->reload;
ok($standby->poll_query_until('postgres', "SELECT code = 'unavailable' FROM apikey_verify('$first')"), 'reloaded there');
is(sql("SELECT code FROM apikey_verify('$first')"), 'valid', 'and only there');
$standby->stop;

# With both settings nothing is decided; and who may say so.
my ($result, $stdout, $stderr) = $node->psql('postgres', "LOAD 'apikey'; SET apikey.pepper_file = '$dir/none'; SELECT code FROM apikey_verify('$first')");
is($stdout, 'unavailable', 'both');
sql('CREATE ROLE mallory');
for my $statement ('SHOW apikey.pepper_command', "SET apikey.pepper_command = 'echo'")
{
	my ($result, $stdout, $stderr) = $node->psql('postgres', "\\set VERBOSITY sqlstate\nLOAD 'apikey'; SET ROLE mallory; $statement");
	like($stderr, qr/42501/, "$statement as an ordinary role");
}
unlike(slurp_file($_->logfile), qr/\Q$old\E|\Q$new\E/, 'no pepper in the log') for $node, $standby;

# Without the library preloaded each session runs it, and can be cancelled.
command("echo '$new'; echo '$old'");
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
$before = runs();
is(sql("SELECT code FROM apikey_verify('$first'), generate_series(1, 3)"), "valid\nvalid\nvalid", 'not preloaded');
is(runs(), $before + 1, 'run by the session, once');
command('sleep 100');
my $started = time;
($result, $stdout, $stderr) = $node->psql('postgres', "SET statement_timeout = '300ms'; SELECT code FROM apikey_verify('$first')");
like($stderr, qr/canceling statement due to statement timeout/, 'cancelled');
cmp_ok(time - $started, '<', 8, 'at once');
$node->stop;
done_testing();
