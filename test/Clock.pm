# A clock for a test's server, which a file says how wrong it is.
#
#     my $clock = Clock->new($dir) or plan(skip_all => Clock::error());
#     $clock->start($node);
#     $clock->set($seconds);
package Clock;
use strict;
use warnings;
use PostgreSQL::Test::Utils;

my $error;

sub error { return "no C compiler: $error" }

# Reading the clock takes at least so many nanoseconds.
sub new
{
	my ($class, $dir, $slow) = @_;
	$slow //= 0;
	append_to_file("$dir/clock.c", qq{
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile long long *wrong;

int
gettimeofday(struct timeval *tv, void *tz)
{
	struct timespec begin, now;

	(void) tz;
	if (wrong == NULL)
	{
		int fd = open(getenv("CLOCK_FILE"), O_RDONLY);

		wrong = mmap(NULL, sizeof(*wrong), PROT_READ, MAP_SHARED, fd, 0);
	}
	clock_gettime(CLOCK_REALTIME, &begin);
	do
		clock_gettime(CLOCK_REALTIME, &now);
	while ((now.tv_sec - begin.tv_sec) * 1000000000LL + now.tv_nsec - begin.tv_nsec < $slow);
	tv->tv_sec = now.tv_sec + *wrong;
	tv->tv_usec = now.tv_nsec / 1000;
	return 0;
}
});
	(undef, $error) = run_command([ 'cc', '-shared', '-fPIC', '-O1', '-o', "$dir/clock.so", "$dir/clock.c" ]);
	return if !-e "$dir/clock.so";
	my $self = bless { dir => $dir }, $class;
	$self->set(0);
	return $self;
}

# In place, since the server has the file in its memory.
sub set
{
	my ($self, $seconds) = @_;
	my $name = "$self->{dir}/wrong";
	open my $file, -e $name ? '+<' : '>', $name or die $!;
	syswrite $file, pack('q', $seconds);
	close $file;
}

sub start
{
	my ($self, $node) = @_;
	local $ENV{LD_PRELOAD} = "$self->{dir}/clock.so";
	local $ENV{CLOCK_FILE} = "$self->{dir}/wrong";
	$node->start;
}

1;
