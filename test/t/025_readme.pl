# README's section "Protect your API": each command as it is shown.
use strict;
use warnings;
use lib 'test';
use Example;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

find_program(@$_) for [ 'node', 'nodejs' ], [ 'npm', 'npm' ], [ 'curl', 'curl' ];
install_packages('node');	# can they be had?
my $node = PostgreSQL::Test::Cluster->new('shop');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->start;
my ($section) = slurp_file('README.md') =~ /^## Protect your API\n(.*?)^## /ms;
my $commands = join '', $section =~ /^```sh\n(.*?)^```/msg;
my $port = free_port();
$commands =~ s/localhost:3000/localhost:$port/g;
my $dir = PostgreSQL::Test::Utils::tempdir();
system('cp', '-r', 'examples', $dir) == 0 or die "cp: $?";

local @ENV{qw(PGHOST PGPORT PORT)} = ($node->host, $node->port, $port);
my ($out, $err);
my $ran = IPC::Run::run([ 'bash', '-e', '-c', qq{trap 'kill \$(jobs -p)' EXIT\n$commands} ], '<', \undef, '>', \$out, '2>', \$err,
	init => sub { chdir $dir or die $! });
ok($ran, 'every command runs') or diag($err);
my @psql = $out =~ /^\((\d+) rows?\)/mg;
is("@psql", '0 1 2 0 1', 'no row without the key, its project\'s with it, none after');
is_deeply([ $out =~ m{HTTP/1.1 (\d+ [^\r\n]*).*?\r\n\r\n(\{"error":"\w+"\}|\[\{"id":1,"customer":"\w+")}sg ],
	[ '401 Unauthorized', '{"error":"missing"}', '200 OK', '[{"id":1,"customer":"Ada"', '401 Unauthorized', '{"error":"revoked"}' ],
	'401, the first row, 401');
$node->stop;
done_testing();
