# Runs a program of examples/ against a throw-away server, for the TAP tests.
package Example;

use strict;
use warnings;
use Cwd qw(getcwd);
use Exporter 'import';
use HTTP::Tiny;
use IO::Socket::INET;
use IPC::Run ();
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT = qw(cannot_run not_here run_suite find_program bare_server protected_server create_key install_packages
	start_program stop_program request json_body free_port);

# Skips the whole test, or fails where nothing may be missing.
sub cannot_run
{
	my ($why) = @_;
	if ($ENV{APIKEY_NO_SKIP})
	{
		fail($why);
		done_testing();
		exit 1;
	}
	plan(skip_all => $why);
}

# Skips the whole test where it would say nothing new: no lack of anything.
sub not_here
{
	my ($why) = @_;
	plan(skip_all => "not here: $why");
}

# The path of a program, or skips the test.
sub find_program
{
	my ($name, $package) = @_;
	for my $dir (split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/bin')
	{
		return "$dir/$name" if -x "$dir/$name";
	}
	cannot_run("$name is not installed (Debian: $package)");
}

# A server where rate limits work; arguments are lines of its configuration.
sub bare_server
{
	my @configuration = @_;
	my $node = PostgreSQL::Test::Cluster->new('api');
	$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
	$node->append_conf('postgresql.conf', join("\n", "shared_preload_libraries = 'apikey'", @configuration));
	$node->start;
	$ENV{PGHOST} = $node->host;
	$ENV{PGPORT} = $node->port;
	$ENV{PGDATABASE} = 'postgres';
	return $node;
}

# The same with the schema of examples/.
sub protected_server
{
	my $node = bare_server(@_);
	$node->command_ok([ 'psql', '-Xq', '-d', 'postgres', '-f', 'examples/schema.sql' ], 'examples/schema.sql');
	return $node;
}

# A new key; arguments as in SQL.
sub create_key
{
	my ($node, $arguments) = @_;
	return $node->safe_psql('postgres', "SELECT auth.apikey_create($arguments)");
}

# A copy of a folder of ours, an example, a client or a test, with the packages
# that its lock file pins; more arguments go to npm.
sub install_packages
{
	my ($folder, @more) = @_;
	my $npm = find_program('npm', 'npm');
	my $copy = PostgreSQL::Test::Utils::tempdir();
	my $dir = "$copy/$folder";
	my $out;
	system('tar -cf - --exclude=node_modules examples clients test/console | tar -xf - -C ' . $copy) == 0 or die "tar: $?";
	IPC::Run::run([ $npm, 'ci', '--ignore-scripts', '--no-audit', '--no-fund', @more ],
		'<', \undef, '>&', \$out, init => sub { chdir $dir or die $! })
		or do { diag($out); cannot_run("npm could not get the packages of $folder") };
	return $dir;
}

# Runs tests that print TAP, each of which becomes one of ours.
sub run_suite
{
	my ($dir, @command) = @_;
	my $out = '';
	my $result = IPC::Run::run(\@command, '<', \undef, '>&', \$out, init => sub { chdir $dir or die $! });
	my ($count, $failed) = (0, 0);
	while ($out =~ /^( *)(not )?ok \d+ - (.*)$/mg)
	{
		my ($indent, $not, $name) = ($1, $2, $3);
		$count++;
		$failed++ if $not;
		ok(!$not, ($indent eq '' ? '' : '- ') . $name);
	}
	ok($result && $count > 0 && $failed == 0, "@command[1 .. $#command]") or diag($out);
}

sub free_port { return PostgreSQL::Test::Cluster::get_free_port() }

# Starts a server program, and waits until it takes connections on PORT.
my @started;
sub start_program
{
	my ($dir, @command) = @_;
	my %program = (output => '', port => free_port());
	local $ENV{PORT} = $program{port};
	$program{run} = IPC::Run::start(\@command, '<', \undef, '>&', \$program{output},
		init => sub { chdir $dir or die $! });
	push @started, $program{run};
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return \%program if IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $program{port});
		last if !$program{run}->pumpable;
		usleep(100_000);
		$program{run}->pump_nb;
	}
	stop_program(\%program);
	die "@command did not start: $program{output}";
}

# Ends it, and returns all that it has written.
sub stop_program
{
	my ($program) = @_;
	$program->{run}->kill_kill;
	@started = grep { $_ != $program->{run} } @started;
	return $program->{output};
}
END { $_->kill_kill for @started }

# An HTTP request; headers as a hash, whose values may be lists.
sub request
{
	my ($program, $method, $path, $headers, $body) = @_;
	return HTTP::Tiny->new(timeout => $PostgreSQL::Test::Utils::timeout_default)
		->request($method, "http://127.0.0.1:$program->{port}$path",
		{ headers => $headers, defined $body ? (content => $body) : () });
}

sub json_body { return decode_json($_[0]->{content}) }

1;
