# Runs the examples of a page of documentation as its reader would: each fenced
# block, from top to bottom, as it is written.
#
#	```sh			commands, in one bash for the whole page, in the page's
#					folder of a copy of the project; each has to succeed
#	```sql as ROLE	statements, in one psql for each role of the page, connected
#					to "shop", or with "as ROLE in DATABASE" to another one;
#					without that in the psql of the block before
#	```text			what the block before has printed, errors included
#	```LANGUAGE FILE	another language: a passage of that file, letter by letter
#
# Every other block is an error, so that none is left out.
#
# The server asks for passwords, but for user "postgres" on its socket, and its
# roles have the passwords that the page gives them.  Some commands are stood
# in for, as there is one machine and we are not root on it: sudo runs what it
# is given, as the superuser of the database where it says "-u postgres";
# "systemctl restart postgresql" restarts the server; apt-get knows the names of
# packages; "make install" installs below a folder of its own.  Ports 3000, 3901 and
# the folders /etc/postgresql and /var/log/postgresql are our own.
#
# What two runs cannot have in common is not compared: keys, ids, times, places
# in our source, and how wide a column is.
package Document;

use strict;
use warnings;
use Exporter 'import';
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(blocks_of run_page same_output);

my %package = map { $_ => 1 }
  qw(curl gcc git make nodejs npm openssl pgbouncer python3-psycopg python3-psycopg-pool);

# The blocks of a page: language, rest of the line, text, and its line number.
sub blocks_of
{
	my ($page) = @_;
	my ($block, $fence, @blocks);
	my $number = 0;

	for my $line (split /\n/, slurp_file($page))
	{
		$number++;
		if ($block)
		{
			if ($line =~ /^\s*\Q$fence\E`*\s*$/) { undef $block; next }
			$line =~ s/^$block->{indent}//;
			$block->{text} .= "$line\n";
		}
		elsif ($line =~ /^(\s*)(`{3,}|~{3,})\s*(\S*)\s*(.*?)\s*$/)
		{
			$fence = $2;
			$block = { indent => $1, language => $3, rest => $4, text => '', line => $number };
			push @blocks, $block;
		}
	}
	die "$page: a block is not closed" if $block;
	return @blocks;
}

# What a run and a page print is compared as this.
sub without_chance
{
	my ($text) = @_;
	my $date = qr/\d{4}-\d\d-\d\d/;
	my $time = qr/\d\d:\d\d:\d\d(?:\.\d+)?(?:[+-]\d\d(?::?\d\d)?|Z)?/;

	$text =~ s/\r//g;
	$text =~ s/\b[a-z][a-z0-9_]{0,19}_[0-9A-Za-z]{61}\b/KEY/g;
	$text =~ s/\b[a-z][a-z0-9_]{0,19}_t_[0-9A-Za-z_-]{40,480}(?![0-9A-Za-z_-])/TOKEN/g;
	$text =~ s/\b([a-z][a-z0-9_]{0,19}_)\.\.\.[0-9A-Za-z]{4}\b/$1...FOUR/g;
	$text =~ s/\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/ID/g;
	$text =~ s/\b$date[ T]$time/TIME/g;
	$text =~ s/\b$date\b/DATE/g;
	$text =~ s/\b(Retry-After: |t=|duration: )[\d.]+/$1N/gi;
	$text =~ s/^LOCATION: .*/LOCATION/mg;
	$text =~ s/-{2,}/-/g;
	$text =~ s/[ \t]+/ /g;
	$text =~ s/^ | $//mg;
	$text =~ s/\n{2,}/\n/g;
	$text =~ s/^\n+|\n+$//g;
	return $text;
}

sub same_output
{
	my ($got, $shown, $name) = @_;
	return is(without_chance($got), without_chance($shown), $name);
}

# A program that reads commands from us, and what it has printed.
sub start_reader
{
	my ($environment, $dir, @command) = @_;
	my %reader = (in => '', out => '', timer => IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	local %ENV = %$environment;
	$reader{run} = IPC::Run::start(\@command, '<', \$reader{in}, '>&', \$reader{out},
		init => sub { chdir $dir or die $! }, $reader{timer});
	return \%reader;
}

# Sends it commands that end by printing a line "end of block ...", of which
# the rest is returned, with what was printed before.
sub read_until_end
{
	my ($reader, $commands) = @_;
	$reader->{out} = '';
	$reader->{in} = $commands;
	$reader->{timer}->start;
	eval {
		$reader->{run}->pump until $reader->{out} =~ /^end of block(.*)\n/m || !$reader->{run}->pumpable;
		1;
	} or die "a block does not end: $@$commands$reader->{out}";
	$reader->{timer}->reset;
	return ($reader->{out}, 'is gone') unless $reader->{out} =~ s/\n?^end of block(.*)\n//m;
	return ($reader->{out}, $1);
}

# The commands that we stand in for.
sub write_stand_ins
{
	my ($page) = @_;
	my ($node, $dir) = @$page{qw(node dir)};
	my ($socket, $data, $log) = ($node->host, $node->data_dir, $node->logfile);
	my %stand_in = (
		sudo => qq{
			unset PGPASSWORD PGDATABASE PGUSER PGHOST
			[ "\$1" != -u ] || { [ "\$2" = postgres ] || exit 1; shift 2; export PGUSER=postgres PGHOST='$socket'; cd /; }
			[ "\$1" != chown ] || exit 0	# all is ours already
			[ "\$1" != make ] || export DESTDIR='$dir/installed'
			exec "\$@"},
		systemctl => qq{
			[ "\$*" = "restart postgresql" ] || exit 1
			exec pg_ctl -w -D '$data' -l '$log' restart >/dev/null 2>&1},
		'apt-get' => qq{
			[ "\$1" = install ] || exit 1
			shift
			for name; do
				case \$name in
					-y | postgresql-server-dev-[0-9]* | ${\ join(' | ', sort keys %package) }) ;;
					*) echo "no package \$name"; exit 1 ;;
				esac
			done});
	mkdir "$dir/bin" or die $!;
	for my $name (keys %stand_in)
	{
		append_to_file("$dir/bin/$name", "#!/bin/bash\n$stand_in{$name}\n");
		chmod 0755, "$dir/bin/$name" or die $!;
	}
}

# A server that asks for passwords, and a copy of the project.
sub start_page
{
	my ($name) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my %page = (dir => $dir, port => PostgreSQL::Test::Cluster::get_free_port(), model => PostgreSQL::Test::Cluster::get_free_port(), sql => {}, password => {},
		node => PostgreSQL::Test::Cluster->new($name =~ s/\W/_/gr));
	my $node = $page{node};

	$node->init(extra => [ '--encoding=UTF8', '--no-locale', '--username=postgres' ]);
	$node->append_conf('postgresql.conf', "listen_addresses = '127.0.0.1'");
	unlink $node->data_dir . '/pg_hba.conf';
	$node->append_conf('pg_hba.conf', "local all postgres trust\nlocal all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256");
	$node->start;

	write_stand_ins(\%page);
	mkdir "$dir/etc" or die $!;
	mkdir "$dir/project" or die $!;
	system(qq{tar -cf - --exclude='./.git' --exclude='./tmp_check*' --exclude='./log' --exclude=node_modules . | tar -xf - -C "$dir/project"}) == 0
		or die "tar: $?";
	$page{environment} = { map { $_ => $ENV{$_} } grep { exists $ENV{$_} && !/^PG|^MAKE|^MFLAGS|^TESTDIR|^TESTDATA|^DESTDIR/ } keys %ENV };
	$page{environment}{PATH} = "$dir/bin:$ENV{PATH}";
	$page{environment}{PGPORT} = $node->port;
	$page{environment}{HOME} = $dir;
	$page{environment}{npm_config_cache} = "$dir/npm";
	$page{environment}{PG_CONFIG} = $ENV{PG_CONFIG} if $ENV{PG_CONFIG};
	return \%page;
}

# What a block says, on this machine.
sub here
{
	my ($page, $text) = @_;
	my $logs = $page->{node}->logfile =~ s,/[^/]*$,,r;
	my $log_name = $page->{node}->logfile =~ s,.*/,,r;
	$text =~ s/localhost:3000/localhost:$page->{port}/g;
	$text =~ s/\b3901\b/$page->{model}/g;
	$text =~ s,/etc/postgresql\b,$page->{dir}/etc,g;
	$text =~ s,/var/log/postgresql/\S*\.log,$logs/$log_name,g;
	return $text;
}

sub there
{
	my ($page, $text) = @_;
	$text =~ s/localhost:$page->{port}/localhost:3000/g;
	$text =~ s,\Q$page->{dir}\E/etc\b,/etc/postgresql,g;
	return $text;
}

# Remembers the passwords that roles are given.
sub note_passwords
{
	my ($page, $text) = @_;
	$page->{password}{$1} = $2 while $text =~ /\b(?:CREATE|ALTER) ROLE (\w+) [^;]*?PASSWORD '([^']+)'/g;
}

sub run_sh
{
	my ($page, $block) = @_;
	my $script = "$page->{dir}/block";
	if (!$page->{bash})
	{
		local $page->{environment}{PORT} = $page->{port};
		$page->{bash} = start_reader($page->{environment}, "$page->{dir}/project/$page->{folder}", 'bash');
		read_until_end($page->{bash}, "set -E -o pipefail; trap 'failed=\"\$failed \$BASH_COMMAND\"' ERR; echo end of block\n");
	}
	unlink $script;
	append_to_file($script, here($page, $block->{text}));
	my ($out, $failed) = read_until_end($page->{bash},
		"failed=; . '$script' </dev/null; echo; echo \"end of block\${failed//\$'\\n'/ }\"\n");
	return (there($page, $out), $failed);
}

sub run_sql
{
	my ($page, $block) = @_;
	if ($block->{rest} =~ /^as (\w+)(?: in (\w+))?$/) { @$page{qw(role database)} = ($1, $2 // 'shop') }
	elsif ($block->{rest} ne '' || !$page->{role}) { die "line $block->{line}: who runs this?\n" }
	my ($role, $database) = @$page{qw(role database)};
	if (!$page->{sql}{"$role $database"})
	{
		my %environment = (%{ $page->{environment} }, PGPASSWORD => $page->{password}{$role} // '');
		$page->{sql}{"$role $database"} = start_reader(\%environment, $page->{dir}, 'psql', '-X', '-q', '-h',
			($role eq 'postgres' ? $page->{node}->host : 'localhost'), '-U', $role, '-d', $database, '-v', 'VERBOSITY=default');
	}
	my ($out, $end) = read_until_end($page->{sql}{"$role $database"}, here($page, $block->{text}) . "\n\\echo end of block\n");
	return (there($page, $out), $end ne '' ? $end : join ' ', $out =~ /^((?:ERROR|FATAL): .*|invalid command .*|unterminated .*)/mg);
}

# A passage of a file is shown as it is there.
sub check_passage
{
	my ($page, $block) = @_;
	my $file = "$page->{dir}/project/$page->{folder}/$block->{rest}";
	return ok($block->{rest} ne '' && -f $file && index(slurp_file($file), $block->{text}) >= 0,
		"$page->{name}, line $block->{line}: a passage of $block->{rest}");
}

sub run_block
{
	my ($page, $block, $shown) = @_;
	my $name = "$page->{name}, line $block->{line}";
	note_passwords($page, $block->{text});
	my ($out, $failed) = $block->{language} eq 'sh' ? run_sh($page, $block) : run_sql($page, $block);
	# An error that the page shows is what it is about.
	my $expected = $shown && $shown->{text} =~ /^ERROR: /m;
	ok($failed eq '' || $expected, "$name: runs") or diag("failed:$failed\n$out");
	return !$shown || same_output($out, $shown->{text}, "$name: prints what is shown");
}

# Runs the blocks given; returns how many.
sub run_blocks
{
	my ($page, @blocks) = @_;
	my $count = 0;
	while (my $block = shift @blocks)
	{
		my $shown = @blocks && $blocks[0]{language} eq 'text' ? shift @blocks : undef;
		$count += $shown ? 2 : 1;
		if ($block->{language} =~ /^(sh|sql)$/) { run_block($page, $block, $shown) }
		elsif ($block->{language} =~ /^(js|python|ini)$/ && !$shown) { check_passage($page, $block) }
		else { fail("$page->{name}, line $block->{line}: a block of \"$block->{language}\" that nothing runs") }
	}
	return $count;
}

# The blocks of README's section "Install", on which the other pages build, and
# of those before another section.
sub install_blocks
{
	my ($before) = @_;
	my $line = 0;
	my ($from, $to);
	for (split /\n/, slurp_file('README.md'))
	{
		$line++;
		if (/^## Install/) { $from = $line }
		elsif (/^## (.*)/ && $from && !$to && (!$before || $1 eq $before)) { $to = $line }
	}
	return grep { $_->{line} > $from && $_->{line} < $to } blocks_of('README.md');
}

# Runs a page from top to bottom, on a server that README's section "Install"
# has set up, unless it is README itself.
sub run_page
{
	my ($name) = @_;
	my $page = start_page($name);
	if ($name ne 'README.md')
	{
		@$page{qw(name folder)} = ('README.md', '.');
		# Who takes the tutorial comes from there.
		run_blocks($page, install_blocks($name eq 'docs/tutorial.md' ? 'Which model fits you' : undef));
		delete $page->{bash};
		$_->{run}->kill_kill for values %{ $page->{sql} };
		$page->{sql} = {};
	}
	@$page{qw(name folder)} = ($name, $name =~ m,(.*)/, ? $1 : '.');
	my @blocks = blocks_of($name);
	is(run_blocks($page, @blocks), scalar(@blocks), "$name: every block was run");
	if ($page->{bash})
	{
		my ($left) = read_until_end($page->{bash}, "for i in {1..50}; do [ -z \"\$(jobs -pr)\" ] && break; sleep 0.1; done; jobs -pr; echo; echo end of block\n");
		is($left =~ s/\s//gr, '', "$name: leaves nothing running");
		$page->{bash}{run}->kill_kill;
	}
	$_->{run}->kill_kill for values %{ $page->{sql} };
	$page->{node}->stop;
}

1;
