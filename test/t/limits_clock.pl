# A clock that is slow to be read, or that is set back, holds nobody up: a rate
# limit looks at it a bounded number of times.
use strict;
use warnings;
use lib 'test';
use Clock;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();

# Reading the clock takes 2 microseconds.
my $clock = Clock->new($dir, 2000) or plan(skip_all => Clock::error());
sub set_clock { $clock->set(@_) }
append_to_file("$dir/pepper", 'p' x 40);
chmod 0600, "$dir/pepper";

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'apikey'\nautovacuum = off\napikey.pepper_file = '$dir/pepper'");
$clock->start($node);
$node->safe_psql('postgres', 'CREATE EXTENSION apikey CASCADE');
set_clock(1000);
is($node->safe_psql('postgres', "SELECT round(extract(epoch FROM clock_timestamp()) - " . time . ", -2)"),
	'1000', 'the server has that clock');
set_clock(0);

# What a statement answers; nothing where it does not within the time.
sub answer
{
	my ($sql) = @_;
	my ($stdout, $timed_out);
	$node->psql('postgres', $sql, stdout => \$stdout, timeout => 30, timed_out => \$timed_out);
	return $timed_out ? 'no answer' : $stdout;
}

my $key = $node->safe_psql('postgres', q{SELECT apikey_create('short', rate_limit => 2, rate_window => '31 days')});
is(answer("SELECT code FROM apikey_verify('$key', cost => 2)"), 'valid', 'all is spent');
$node->safe_psql('postgres', q{UPDATE apikeys SET rate_window = '1 second'});
is(answer("SELECT code FROM apikey_verify('$key')"), 'rate_limited', 'a window that has become shorter');
ok($node->poll_query_until('postgres', "SELECT valid FROM apikey_verify('$key')"), 'is the one that counts');

my $back = $node->safe_psql('postgres', q{SELECT apikey_create('back', rate_limit => 2, rate_window => '1 second')});
is(answer("SELECT code FROM apikey_verify('$back', cost => 2)"), 'valid', 'all is spent');
set_clock(-10 * 86400);
is(answer("SELECT code FROM apikey_verify('$back')"), 'rate_limited', 'a clock that was set back 10 days');
ok($node->poll_query_until('postgres', "SELECT rate_remaining = 2 FROM apikey_verify('$back', cost => 0)"),
	'holds a key up for one window');

# A token lasts no longer for it, nor begins before it was made.
my $short = $node->safe_psql('postgres', "SELECT apikey_token_create(apikey_create('of-token'), '1 second')");
my $day = $node->safe_psql('postgres', "SELECT apikey_token_create('$back', '24 hours')");
is(answer("SELECT code FROM apikey_verify('$day', cost => 0)"), 'valid', 'a token');
set_clock(-20 * 86400);
is(answer("SELECT code FROM apikey_verify('$day', cost => 0)"), 'not_yet_valid', 'and the clock set back');
is(answer("SELECT code FROM apikey_verify('$short')"), 'not_yet_valid', 'and for one that had ended');
set_clock(-10 * 86400 + 3);
is(answer("SELECT code FROM apikey_verify('$short')"), 'expired', 'put right again');
is(answer("SELECT code FROM apikey_verify('$day', cost => 0)"), 'valid', 'for both');
set_clock(-10 * 86400);

# Exactly as many as ever pass under load.
my $loaded = $node->safe_psql('postgres', q{SELECT apikey_create('loaded', rate_limit => 500, rate_window => '31 days')});
append_to_file("$dir/check.sql", "SELECT apikey_check('$loaded');\n");
$node->command_ok([ 'pgbench', '-n', '-c', '4', '-t', '300', '-f', "$dir/check.sql", 'postgres' ], 'four sessions');
is($node->safe_psql('postgres', q{SELECT use_count, denied_count FROM apikeys WHERE name = 'loaded'}),
	'500|700', 'exactly the limit passed');
$node->stop;
done_testing();
