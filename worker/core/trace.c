// Events and actions as prose.
#include "worker/core/agent.h"

static void print_range(const struct agent_event *event, FILE *out)
{
    fprintf(out, "j%u:t%u.%u", event->u.range.job, event->u.range.layer, event->u.range.first);
    if (event->u.range.count != 1) {
        fprintf(out, "-%u", event->u.range.first + event->u.range.count - 1);
    }
}

static void print_key(const struct task_key *key, FILE *out)
{
    fprintf(out, "j%u:t%u.%u", key->job, key->layer, key->index);
}

void agent_event_print(const struct agent_event *event, FILE *out)
{
    const struct task_key *key = &event->u.task.key;

    switch (event->type) {
    case AGENT_CONNECTED:
        fputs("connected", out);
        break;
    case AGENT_DISCONNECTED:
        fputs("the broker is gone", out);
        break;
    case AGENT_LAYER:
        fprintf(out, "learns layer j%u:t%u", event->u.layer.job, event->u.layer.layer);
        break;
    case AGENT_ASSIGN:
        fputs("is to run ", out);
        print_range(event, out);
        break;
    case AGENT_LOCATION:
        print_range(event, out);
        fprintf(out, " is at w%u", event->u.range.worker);
        break;
    case AGENT_DROP:
        fputs(event->u.range.kill ? "is to stop " : "is to give back ", out);
        print_range(event, out);
        break;
    case AGENT_RELEASE:
        fputs("is to release ", out);
        print_range(event, out);
        break;
    case AGENT_FORGET_JOB:
        fprintf(out, "is to forget j%u", event->u.range.job);
        break;
    case AGENT_FETCHED:
        fputs("has got ", out);
        print_key(key, out);
        break;
    case AGENT_FETCH_FAILED:
        fputs("could not get ", out);
        print_key(key, out);
        fprintf(out, ": %s", event->u.task.text != NULL ? event->u.task.text : "");
        break;
    case AGENT_TASK_DONE:
        fputs("has done ", out);
        print_key(key, out);
        break;
    case AGENT_TASK_FAILED:
        print_key(key, out);
        fprintf(out, " failed: %s", event->u.task.text != NULL ? event->u.task.text : "");
        break;
    }
}

static const char *const verbs[] = {
    [AGENT_RUN] = "run ",
    [AGENT_CANCEL] = "stop ",
    [AGENT_FETCH] = "fetch ",
    [AGENT_FREE] = "free ",
    [AGENT_FREE_LAYER] = "forget the operation of ",
    [AGENT_REPORT_DONE] = "report done ",
    [AGENT_REPORT_FAILED] = "report failed ",
    [AGENT_REPORT_DROPPED] = "give back ",
    [AGENT_ADVERTISE] = "advertise ",
};

void agent_action_print(const struct agent_action *action, FILE *out)
{
    fputs(verbs[action->type], out);
    print_key(&action->key, out);
    if (action->type == AGENT_FETCH) {
        fprintf(out, " from w%u", action->worker);
    } else if (action->type == AGENT_REPORT_FAILED && action->missing_input) {
        fputs(", no ", out);
        print_key(&action->missing, out);
        fprintf(out, " at w%u", action->worker);
    } else if (action->type == AGENT_REPORT_FAILED) {
        fprintf(out, ": %s", action->text != NULL ? action->text : "");
    }
}
