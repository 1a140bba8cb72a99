# clients/python: its own tests, its types, and what it tells the server.
use strict;
use warnings;
use lib 'test';
use Cwd qw(getcwd);
use Example;
use PostgreSQL::Test::Utils;
use Test::More;

not_here('a client is the same for each major: tested with the one of this machine') if $ENV{APIKEY_OTHER_MAJOR};
# Debian's modules belong to Debian's Python, which need not be the first.
my $python = '/usr/bin/python3';
cannot_run('psycopg 3 with its pool is not installed (Debian: python3-psycopg, python3-psycopg-pool)')
	if system("$python -c 'import psycopg_pool' >/dev/null 2>&1") != 0;
my $mypy = find_program('mypy', 'mypy');
my $dir = getcwd() . '/clients/python';
my $pepper = PostgreSQL::Test::Utils::tempdir() . '/pepper';
append_to_file($pepper, 'p' x 40);
chmod 0600, $pepper;
my $server = protected_server("log_statement = 'all'", "apikey.pepper_file = '$pepper'");

local $ENV{PYTHONDONTWRITEBYTECODE} = 1;
run_suite($dir, $python, 'tests/support.py');
run_suite($dir, 'sh', '-c', "$mypy --python-executable $python --cache-dir=/dev/null src tests/types_used.py && echo 'ok 1 - types'");

# What it asks with: the tests themselves send keys, but no digests.
my @asked = grep { /'\\x[0-9a-f]{64}'/ } slurp_file($server->logfile) =~ /parameters: (.*)/g;
cmp_ok(scalar(@asked), '>', 50, 'the server has logged what it was sent');
is_deeply([ grep { /'[a-z][a-z0-9_]{0,19}_[0-9A-Za-z]{61}'/ } @asked ], [], 'and no key is in it');
$server->stop;
done_testing();
