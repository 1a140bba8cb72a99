# A fleet under load: servers whose wires can be cut, that can be killed and
# promoted, and clients of each that write down what they were told.
package Fleet;
use strict;
use warnings;
use File::Copy;
use File::Path;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Proxy;
use Time::HiRes qw(sleep time);

# How long a condition is waited for, in seconds.
our $PATIENCE = 180;

# A standby that reports by a wire, or where that is a server, to it; made of the
# upstream's backup, and started.
sub member
{
	my ($name, $upstream, $wire, $conf) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	my $to = $wire->isa('Proxy') ? "host=127.0.0.1 port=@{[$wire->port]}" : $wire->connstr;
	$node->init_from_backup($upstream, 'backup', has_streaming => 1);
	$node->append_conf('postgresql.conf', "apikey.fleet = on\napikey.primary_conninfo = '$to user=fleet'\n" . ($conf // ''));
	$node->start;
	return $node;
}

# $conf is for all servers; the first is the primary, the last is a standby of a
# standby.
sub new
{
	my ($class, $conf, @names) = @_;
	my $self = bless { dir => PostgreSQL::Test::Utils::tempdir(), nodes => {}, names => \@names,
		primary => $names[0], cascade => $names[-1] }, $class;
	my $direct = join ', ', grep { $_ ne $self->{cascade} } @names;
	for my $name (@names)
	{
		my $node = $self->{nodes}{$name} = PostgreSQL::Test::Cluster->new($name);
		if ($name eq $self->{primary}) { $node->init(allows_streaming => 1) }
		else { $node->init_from_backup($self->primary, 'backup', has_streaming => 1) }
		# Where the server reports, and what it is a standby of: all but one have one wire.
		my $wire = $self->{wires}{$name} = Proxy->new($self->primary);
		my $stream = $name eq $self->{cascade} ? $self->{wires}{stream} = Proxy->new($self->node($names[1])) : $wire;
		$node->append_conf('postgresql.conf', qq{
$conf
shared_preload_libraries = 'apikey'
cluster_name = '$name'
log_statement = none
wal_log_hints = on
wal_keep_size = '512MB'
wal_retrieve_retry_interval = '100ms'
wal_receiver_timeout = '2s'
wal_sender_timeout = '2s'
primary_conninfo = 'host=127.0.0.1 port=@{[$stream->port]}'
apikey.fleet = on
apikey.primary_conninfo = 'host=127.0.0.1 port=@{[$wire->port]} user=fleet'
});
		$node->start;
		next if $name ne $self->{primary};
		$node->safe_psql('postgres', q{CREATE EXTENSION apikey CASCADE; CREATE ROLE fleet LOGIN; SELECT apikey_grant('servers', 'fleet')});
		$node->backup('backup');
	}
	# With this what is acknowledged outlives the primary.
	for my $node (map { $self->node($_) } @names)
	{
		$node->append_conf('postgresql.conf', "synchronous_standby_names = 'ANY 1 ($direct)'");
		$node->reload;
	}
	return $self;
}

sub node { return $_[0]{nodes}{ $_[1] } }
sub primary { return $_[0]->node($_[0]{primary}) }
sub names { return @{ $_[0]{names} } }
sub wires { return $_[0]{wires} }
sub members { my ($self) = @_; return grep { $_ ne $self->{primary} } $self->names }

# Waits until something is so; returns whether it came to that.
sub waits_for
{
	my ($self, $what) = @_;
	my $end = time() + $PATIENCE;
	until ($what->())
	{
		return 0 if time() > $end;
		sleep 0.1;
	}
	return 1;
}

# What a query tells; undef where the server cannot be asked.
sub ask
{
	my ($self, $name, $query) = @_;
	my ($code, $out) = eval { $self->node($name)->psql('postgres', $query, timeout => 30) };
	return defined $code && $code == 0 ? $out : undef;
}

sub caught_up
{
	my ($self) = @_;
	my $lsn = $self->primary->lsn('flush');
	for my $name ($self->members)
	{
		$self->waits_for(sub { ($self->ask($name, "SELECT pg_last_wal_replay_lsn() >= '$lsn'") // '') eq 't' })
			or die "$name does not catch up";
	}
}

# Clients of each server verify keys, by name, until they are told to stop.
sub load_begin
{
	my ($self, %keys) = @_;
	my $script = "$self->{dir}/script";
	my $stop = $self->{stop} = "$self->{dir}/stop";
	unlink $stop, glob "$self->{dir}/told.*";
	my $round = join '', map { "SELECT '$_', extract(epoch FROM statement_timestamp()), v.code, extract(epoch FROM clock_timestamp()) FROM apikey_verify('$keys{$_}') v;\n" } sort keys %keys;
	append_to_file("$script.new", ($round . "SELECT FROM pg_sleep(0.01);\n") x 20);
	rename "$script.new", $script;
	for my $name ($self->names)
	{
		my $command = sprintf q{psql -XAtq -v ON_ERROR_STOP=1 -d '%s' -f '%s' >>'%s' 2>/dev/null}, $self->node($name)->connstr('postgres') =~ s/'//gr, $script, $self->told($name);
		append_to_file($self->told($name), '');
		my $pid = $self->{clients}{$name} = fork() // die "could not fork: $!";
		next if $pid;
		until (-e $stop)
		{
			sleep 0.2 if system($command) != 0;
			append_to_file($self->told($name), "done\n");
		}
		POSIX::_exit(0);
	}
}

sub load_end
{
	my ($self) = @_;
	append_to_file($self->{stop}, '');
	local $?;
	waitpid $_, 0 for values %{ $self->{clients} };
	$self->{clients} = {};
}

sub told { return "$_[0]{dir}/told.$_[1]" }

# What the clients of a server were told: by key the number of valid and of
# other answers of a key that was there, and when the valid ones were.
sub tally
{
	my ($self, $name) = @_;
	my %tally = (valid => {}, denied => {}, codes => {}, times => {}, done => 0);
	for my $line (split /\n/, slurp_file($self->told($name)))
	{
		my ($key, $begun, $code, $ended) = split /\|/, $line;
		if (!defined $ended) { $tally{done}++ if $line eq 'done'; next }
		next if $code eq 'not_found';
		$tally{codes}{$key}{$code}++;
		$tally{ $code eq 'valid' ? 'valid' : 'denied' }{$key}++;
		push @{ $tally{times}{$key} }, [ $begun, $ended ] if $code eq 'valid';
	}
	return \%tally;
}

# All that was told to the clients of a server so far is where a crash of it
# loses nothing: a report or a flush that began later has ended.
sub is_told
{
	my ($self, $name) = @_;
	my $query = $name eq $self->{primary} ? 'SELECT last_flush_at FROM apikey_stats' :
		"SELECT max(last_report_at) FROM apikey_servers WHERE name ~ '^$name( |\$)'";
	my $last = $self->ask($self->{primary}, $query) // '';
	# The first may have begun before.
	for (1, 2)
	{
		my $next;
		$self->waits_for(sub { $next = $self->ask($self->{primary}, $query) // ''; $next ne '' && $next ne $last })
			or die "$name tells nothing";
		$last = $next;
	}
}

# Ends all processes of a server.
sub end_processes
{
	my ($self, $name) = @_;
	my $node = $self->node($name);
	my ($pid) = split /\n/, slurp_file($node->data_dir . '/postmaster.pid');
	my @children = split ' ', `ps -o pid= --ppid $pid`;
	$node->kill9;
	kill 'KILL', @children;
	$self->waits_for(sub { !grep { kill 0, $_ } $pid, @children }) or die "$name does not end";
}

# Kills a server and adds what it may have lost at most, by key, to what is
# lost; the wires are to be whole.
sub crash
{
	my ($self, $name, $lost) = @_;
	my $before = $self->tally($name);
	$self->is_told($name);
	$self->end_processes($name);
	my $done = $self->tally($name)->{done};
	$self->waits_for(sub { $self->tally($name)->{done} > $done }) or die 'the client does not end';
	my $after = $self->tally($name);
	for my $what ('valid', 'denied')
	{
		$lost->{$what}{$_} += $after->{$what}{$_} - ($before->{$what}{$_} // 0) for keys %{ $after->{$what} };
	}
	$lost->{crashes}++;
}

sub start
{
	my ($self, $name) = @_;
	$self->waits_for(sub { $self->node($name)->start(fail_ok => 1) }) or die "$name does not start";
	$self->waits_for(sub { defined $self->ask($name, 'SELECT 1') }) or die "$name does not answer";
}

# The standby that has all becomes the primary; all wires lead to it.
sub promote
{
	my ($self) = @_;
	my @standbys = grep { $_ ne $self->{cascade} } $self->members;
	$self->waits_for(sub { !grep { ($self->ask($_, 'SELECT count(*) FROM pg_stat_wal_receiver') // '') ne '0' } @standbys })
		or die 'a standby still receives';
	my %has = map { $_ => $self->ask($_, q{SELECT pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '0/0')}) } @standbys;
	my ($new, $other) = sort { $has{$b} <=> $has{$a} } @standbys;
	$self->node($new)->promote;
	$self->{primary} = $new;
	$self->{wires}{$_}->lead_to($self->node($new)) for $self->names;
	$self->{wires}{stream}->lead_to($self->node($other));
	return $new;
}

# A server whose data is that of an earlier primary becomes a standby.
sub come_back
{
	my ($self, $name, $rewind) = @_;
	my $node = $self->node($name);
	my ($data, $from) = ($node->data_dir, $self->primary->connstr('postgres'));
	copy("$data/postgresql.conf", "$self->{dir}/conf") or die "could not copy: $!";
	unlink "$data/postmaster.pid";
	if ($rewind)
	{
		$self->primary->safe_psql('postgres', 'CHECKPOINT');
		PostgreSQL::Test::Utils::system_log('pg_rewind', '-D', $data, '--source-server', $from) == 0
			or die 'pg_rewind failed';
	}
	else
	{
		rmtree($data);
		PostgreSQL::Test::Utils::system_log('pg_basebackup', '-D', $data, '-d', $from, '-c', 'fast') == 0
			or die 'pg_basebackup failed';
	}
	copy("$self->{dir}/conf", "$data/postgresql.conf") or die "could not copy: $!";
	chmod 0700, $data;
	$node->set_standby_mode;
	$self->start($name);
}

sub DESTROY
{
	my ($self) = @_;
	local $?;
	kill 'TERM', values %{ $self->{clients} } if %{ $self->{clients} // {} };
}

1;
