# clients/node: its own tests, its types, and what it tells the server.
use strict;
use warnings;
use lib 'test';
use Example;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

not_here('a client is the same for each major: tested with the one of this machine') if $ENV{APIKEY_OTHER_MAJOR};
my $nodejs = find_program('node', 'nodejs');
my ($node_version) = run_command([ $nodejs, '--version' ]);
not_here("the client is for Node 20 and later, not $node_version") if $node_version =~ /^v(\d+)/ && $1 < 20;
my $dir = install_packages('clients/node');
my $pepper = PostgreSQL::Test::Utils::tempdir() . '/pepper';
append_to_file($pepper, 'p' x 40);
chmod 0600, $pepper;
my $server = protected_server("log_statement = 'all'", "apikey.pepper_file = '$pepper'");

run_suite($dir, $nodejs, '--test', '--test-reporter=tap', map { s,^\Q$dir\E/,,r } glob "$dir/test/*.test.js");

# What is committed as types is what the sources say, and an application can use it.
my $tsc = "$dir/node_modules/typescript/bin/tsc";
for my $arguments ([ '-p', '.', '--outDir', "$dir/generated" ], [ '-p', 'test' ])
{
	my $out = '';
	ok(IPC::Run::run([ $nodejs, $tsc, @$arguments ], '<', \undef, '>&', \$out, init => sub { chdir $dir or die $! }),
		"tsc @$arguments[0, 1]") or diag($out);
}
my ($difference) = run_command([ 'diff', '-r', "$dir/types", "$dir/generated" ]);
is($difference, '', 'clients/node/types are of these sources (npm run types)');

# A key ends in 39 characters that nobody may see; the tests have made some.
my @keys = slurp_file($server->logfile) =~ /apikey_(?:verify|authenticate)_digest.*\n.*\$1 = '([^']*)'/g;
cmp_ok(scalar(@keys), '>', 50, 'the server has logged what it was sent');
is_deeply([ grep { /^[a-z][a-z0-9_]{0,19}_[0-9A-Za-z]{61}$/ } @keys ], [], 'and no key is in it');
$server->stop;
done_testing();
