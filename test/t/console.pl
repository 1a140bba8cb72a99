# examples/console in a browser: test/console walks through it as an owner, an
# admin, a developer and a stranger, in both languages, and on bad days.  The
# console reaches the server through PgBouncer in transaction mode.
use strict;
use warnings;
use lib 'test';
use Example;
use Cwd ();
use File::Path qw(make_path);
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

# Set by test/run MAJOR, and so in the root directories of test/run --versions:
# they have no browser.
not_here('the browser is tried with the PostgreSQL of this machine alone') if $ENV{APIKEY_OTHER_MAJOR};

my $nodejs = find_program('node', 'nodejs');
my $pgbouncer = find_program('pgbouncer', 'pgbouncer');
my $chromium = find_program('chromium', 'chromium');
my $dir = install_packages('examples/console');
my $walker = install_packages('test/console');
my $temporary = PostgreSQL::Test::Utils::tempdir();

append_to_file("$temporary/pepper", 'p' x 40);
chmod 0600, "$temporary/pepper";
my $server = bare_server("log_statement = 'all'", "apikey.pepper_file = '$temporary/pepper'");
$server->safe_psql('postgres', 'CREATE DATABASE app');
$ENV{PGDATABASE} = 'app';
# Its functions run as a superuser, so where somebody else could have put what they name it is not set up.
for my $schema (qw(auth console))
{
	$server->safe_psql('app', "CREATE ROLE planter; CREATE SCHEMA $schema AUTHORIZATION planter");
	$server->command_fails_like([ 'psql', '-Xq', '-f', 'examples/console/setup.sql' ], qr/schema "$schema" is not a superuser's alone/, "not with a schema $schema of somebody else's");
	$server->safe_psql('app', "DROP SCHEMA $schema; DROP ROLE planter");
}
$server->command_ok([ 'psql', '-Xq', '-f', 'examples/console/setup.sql' ], 'examples/console/setup.sql') for 1, 2;
$server->command_ok([ 'psql', '-Xq', '-f', 'examples/console/demo.sql' ], 'examples/console/demo.sql') for 1, 2;

append_to_file("$temporary/users", qq{"console" ""\n"admin" ""\n});
append_to_file("$temporary/pgbouncer.ini", qq{
[databases]
app = host=$ENV{PGHOST} port=$ENV{PGPORT} dbname=app
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = \@PORT\@
unix_socket_dir =
auth_type = trust
auth_file = $temporary/users
admin_users = admin
pool_mode = transaction
default_pool_size = 2
});
my $pool = start_program($temporary, 'sh', '-c', qq{sed -i "s/\@PORT\@/\$PORT/" pgbouncer.ini && exec "$pgbouncer" pgbouncer.ini});

# The console as it is, and one behind a proxy that says who is calling.
my ($console, $proxied);
{
	local @ENV{qw(PGHOST PGPORT CONSOLE_SECRET)} = ('127.0.0.1', $pool->{port}, 'a secret of the test');
	$console = start_program($dir, $nodejs, 'server.js');
	local $ENV{CONSOLE_USER_HEADER} = 'x-forwarded-user';
	$proxied = start_program($dir, $nodejs, 'server.js');
}

my $images = $ENV{APIKEY_IMAGES} // 'test/output/console';
make_path($images);
$images = Cwd::abs_path($images);
my $out = '';
{
	local @ENV{qw(APP_DIR CONSOLE_URL PROXY_URL POOLER_PORT CHROMIUM IMAGES HOME)} = ($dir,
		"http://localhost:$console->{port}", "http://localhost:$proxied->{port}", $pool->{port}, $chromium, $images, $temporary);
	# What was said until then is shown too where it does not end.
	ok(eval {
		IPC::Run::run([ $nodejs, 'walk.js' ], '<', \undef, '>&', \$out, init => sub { chdir $walker or die $! },
			IPC::Run::timeout(10 * $PostgreSQL::Test::Utils::timeout_default));
	}, 'the walk has ended') or diag($@);
}
my @keys;
for (split /\n/, $out)
{
	if (/^(ok|not ok) - (.*)/) { ok($1 eq 'ok', $2) }
	elsif (/^# keys: (.*)/) { @keys = split / /, $1 }
	else { diag($_) }
}
diag("screenshots: $images");

# No key where anybody could read it.
cmp_ok(scalar(@keys), '>', 10, 'keys were shown');
my %log = (
	'console' => stop_program($console) . stop_program($proxied),
	'pooler' => stop_program($pool),
	'server' => slurp_file($server->logfile));
for my $log (sort keys %log)
{
	is(scalar(grep { index($log{$log}, substr $_, -39) >= 0 } @keys), 0, "no key in the log of the $log");
}
unlike($log{console}, qr/TypeError|ReferenceError|SyntaxError/, 'the console has not failed');
$server->stop;
done_testing();
