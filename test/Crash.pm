# The death of a test's server.
#
#     kill_postmaster($node);
#     start_again($node);
package Crash;
use strict;
use warnings;
use Exporter 'import';
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(kill_postmaster start_again);
my $patience = $PostgreSQL::Test::Utils::timeout_default;

# Kills it and waits for its end.  Where nobody reaps it, as in a container whose
# first process does not, it stays a zombie, which a server that starts would
# take for alive: its file gets another number then, and still names the memory
# that its processes may be attached to.
sub kill_postmaster
{
	my ($node) = @_;
	my $pid = $node->{_pid};
	my $end = time + $patience;
	my $file = $node->data_dir . '/postmaster.pid';
	$node->kill9;
	while (kill(0, $pid))
	{
		die 'the postmaster does not end' if time > $end;
		if ((eval { slurp_file("/proc/$pid/stat") } // '') =~ /^\d+ \(.*\) Z/)
		{
			my $content = slurp_file($file) =~ s/^\d+/2147483647/r;
			unlink $file;
			append_to_file($file, $content);
			unlink $node->host . '/.s.PGSQL.' . $node->port . '.lock';
			return;
		}
		usleep(10_000);
	}
}

# Starts it.  After the postmaster's death its processes end by themselves, each
# when it next waits for something; before that no server starts.
sub start_again
{
	my ($node) = @_;
	my $end = time + $patience;
	while (!$node->start(fail_ok => 1))
	{
		die 'the server does not start again' if time > $end;
		$node->stop('fast', fail_ok => 1);	# forgets the process that is gone
		usleep(100_000);
	}
}

1;
