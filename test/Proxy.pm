# A TCP proxy before a server's socket, whose wire can be cut: held up, so that
# nothing comes through but nobody is told, or broken.
package Proxy;
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX ();
use PostgreSQL::Test::Cluster;

sub new
{
	my ($class, $node) = @_;
	my $self = bless { node => $node, port => PostgreSQL::Test::Cluster::get_free_port() }, $class;
	$self->mend;
	return $self;
}

sub port { return $_[0]->{port} }

# Where the other end is from now on, for connections to come.
sub lead_to
{
	my ($self, $node) = @_;
	$self->break_off;
	$self->{node} = $node;
	$self->mend;
}

sub mend
{
	my ($self) = @_;
	if ($self->{pid}) { kill 'CONT', $self->{pid}; return }
	my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $self->{port},
		Listen => 64, ReuseAddr => 1) or die "could not listen: $!";
	my $path = $self->{node}->host . '/.s.PGSQL.' . $self->{node}->port;
	$self->{pid} = fork() // die "could not fork: $!";
	if ($self->{pid} == 0) { _serve($listen, $path); POSIX::_exit(0) }
	close $listen;
}

sub hold_up { kill 'STOP', $_[0]->{pid} if $_[0]->{pid} }

sub break_off
{
	my ($self) = @_;
	my $pid = delete $self->{pid} or return;
	kill 'KILL', $pid;
	local $?;
	waitpid $pid, 0;
}

sub DESTROY
{
	my ($self) = @_;
	local $?;
	$self->break_off;
}

# Is a client of the user's who runs this?  The server trusts whoever connects.
sub _is_ours
{
	my ($client) = @_;
	my $host = unpack 'L', pack('C4', 127, 0, 0, 1);
	my ($from, $to) = map { sprintf '%08X:%04X', $host, $_ // 0 } $client->peerport, $client->sockport;
	open(my $table, '<', '/proc/net/tcp') or die "/proc/net/tcp: $!";
	while (<$table>)
	{
		my @field = split;
		return $field[7] == $> if $field[1] eq $from && $field[2] eq $to;
	}
	return 0;
}

sub _serve
{
	my ($listen, $path) = @_;
	my $select = IO::Select->new($listen);
	my (%other, $data);
	$SIG{PIPE} = 'IGNORE';
	my $end = sub { for my $socket (@_) { next unless $socket; $select->remove($socket); delete $other{$socket}; close $socket } };
	while (1)
	{
		for my $socket ($select->can_read)
		{
			if ($socket == $listen)
			{
				my $client = $listen->accept or next;
				if (!_is_ours($client)) { close $client; next }
				my $server = IO::Socket::UNIX->new(Peer => $path);
				if (!$server) { close $client; next }
				$other{$client} = $server;
				$other{$server} = $client;
				$select->add($client, $server);
				next;
			}
			my $to = $other{$socket} or next;
			if (!sysread($socket, $data, 65536)) { $end->($socket, $to); next }
			while (length $data)
			{
				my $written = syswrite($to, $data);
				if (!defined $written) { $end->($socket, $to); last }
				substr($data, 0, $written, '');
			}
		}
	}
}

1;
