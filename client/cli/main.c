#include <argp.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/command.h"
#include "client/include/dray.h"
#include "client/lang/spell.h"

static int version_main(int argc, char **argv);
static int help_main(int argc, char **argv);

static const struct command {
    const char *name;
    command_main *main;
    const char *summary;
} commands[] = {
    {"run", run_main, "run an expression or a script and print its value"},
    {"submit", submit_main, "run the tasks of a file, and print their results"},
    {"jobs", jobs_main, "list the jobs of a cluster"},
    {"job", job_main, "tell of one: how far it is, what it waits for, what failed and why"},
    {"wait", wait_main, "wait for the end of jobs"},
    {"result", result_main, "print the results of a job, or of some of its tasks"},
    {"cancel", cancel_main, "stop a job or tasks of it, or let go of what it made"},
    {"keep", keep_main, "keep a job and its results under a name"},
    {"unkeep", unkeep_main, "take such a name back"},
    {"kept", kept_main, "list these names"},
    {"workers", workers_main, "list the workers of a cluster, or ask some to leave (workers retire NAME...)"},
    {"cluster", workers_main, NULL}, // another name
    {"version", version_main, "print the version"},
    {"help", help_main, "print this, or `dray help COMMAND` for its options"},
    {"--version", version_main, NULL},
    {"-V", version_main, NULL},
    {"--help", help_main, NULL},
    {"-h", help_main, NULL},
    {"-?", help_main, NULL},
};

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

static void complain_unknown(const char *name)
{
    struct spell spell = {.word = name};

    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (commands[i].summary != NULL) {
            spell_try(&spell, commands[i].name);
        }
    }
    if (strcmp(name, "retire") == 0) {
        complain_text("there is no command \"retire\": say dray workers retire NAME...");
    } else if (spell_is_near(&spell)) {
        complain_text("there is no command \"%s\": did you mean \"%s\"? See dray help", name, spell.best);
    } else {
        complain_text("there is no command \"%s\"; see dray help", name);
    }
}

static void print_usage(FILE *out)
{
    fputs("Usage: dray COMMAND [OPTION...]\n\n", out);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (commands[i].summary != NULL) {
            fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
        }
    }
    fputs("\nExit status:\n"
          "    0  done\n"
          "    1  the job failed\n"
          "    2  wrong usage, or an error in the script\n"
          "    3  the broker could not be reached, was lost, or takes no more jobs (its disk is full)\n"
          "    4  no workers were connected\n"
          "    5  the result could not be written\n"
          "  130  interrupted (128 + the number of any signal)\n",
          out);
}

static int finish_stdout(void)
{
    if (stdout_was_closed() || fflush(stdout) != 0) {
        complain_text("cannot write standard output: %s", strerror(stdout_was_closed() ? EBADF : errno));
        return STATUS_OUTPUT;
    }
    return STATUS_OK;
}

static int version_main(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf("dray %s\n", dray_version());
    return finish_stdout();
}

static int run_command(const struct command *command, int argc, char **argv);

static int help_main(int argc, char **argv)
{
    const struct command *command = argc > 1 ? find_command(argv[1]) : NULL;

    if (argc > 1 && command == NULL) {
        complain_unknown(argv[1]);
        return STATUS_USAGE;
    }
    if (command != NULL && command->main != help_main && command->main != version_main) {
        char *arguments[] = {argv[1], (char[]){"--help"}, NULL};

        return run_command(command, 2, arguments);
    }
    print_usage(stdout);
    return finish_stdout();
}

// argp names the program by argv[0] and by a global; both shall say "dray run".
static int run_command(const struct command *command, int argc, char **argv)
{
    char name[64];

    snprintf(name, sizeof(name), "dray %s", command->name);
    argv[0] = name;
    program_invocation_short_name = name;
    program_invocation_name = name;
    return command->main(argc, argv);
}

static void print_version(FILE *out, struct argp_state *state)
{
    (void)state;
    fprintf(out, "dray %s\n", dray_version());
}

int main(int argc, char **argv)
{
    const struct command *command;

    // One heap for all threads: the arenas of libzmq's threads would only cost memory.
    mallopt(M_ARENA_MAX, 1);
    if (standard_streams_keep() != 0) {
        return STATUS_OUTPUT;
    }
    argp_err_exit_status = STATUS_USAGE;
    argp_program_version_hook = print_version;
    if (argc < 2) {
        print_usage(stderr);
        return STATUS_USAGE;
    }
    command = find_command(argv[1]);
    if (command == NULL) {
        complain_unknown(argv[1]);
        return STATUS_USAGE;
    }
    return run_command(command, argc - 1, argv + 1);
}
