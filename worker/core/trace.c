// Events and actions as prose.
#include "worker/core/agent.h"

static void print_range(const struct agent_range *range, FILE *out)
{
    fprintf(out, "j%u:t%u.%u", range->job, range->layer, range->first);
    if (range->count != 1) {
        fprintf(out, "-%u", range->first + range->count - 1);
    }
}

static void print_key(const struct task_key *key, FILE *out)
{
    fprintf(out, "j%u:t%u.%u", key->job, key->layer, key->index);
}

void agent_event_print(const struct agent_event *event, FILE *out)
{
    const struct task_key *key = &event->u.task.key;
    const struct agent_range *range = &event->u.range.range;

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
        print_range(range, out);
        break;
    case AGENT_LOCATION:
        print_range(range, out);
        fprintf(out, " is at w%u", event->u.range.worker);
        break;
    case AGENT_DROP:
        fputs(event->u.range.kill ? "is to stop " : "is to give back ", out);
        print_range(range, out);
        break;
    case AGENT_RELEASE:
        fputs("is to release ", out);
        print_range(range, out);
        break;
    case AGENT_FORGET_JOB:
        fprintf(out, "is to forget j%u", range->job);
        break;
    case AGENT_COPY:
        fputs("is to hold ", out);
        print_range(range, out);
        fprintf(out, " of w%u", event->u.range.worker);
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
    case AGENT_LOST:
        fputs("has damaged ", out);
        print_range(range, out);
        break;
    case AGENT_LEAVING:
        fputs("is to leave", out);
        break;
    case AGENT_TICK:
        fputs("looks at its bundles", out);
        break;
    case AGENT_TASKS_DONE:
        fputs("has done ", out);
        print_range(range, out);
        break;
    case AGENT_TASKS_SKIPPED:
        fputs("has not begun ", out);
        print_range(range, out);
        break;
    case AGENT_BUNDLE_OVER:
        fprintf(out, "is through with bundle %u", event->u.bundle);
        break;
    case AGENT_TASK_FAILED:
        print_key(key, out);
        fprintf(out, " failed: %s", event->u.task.text != NULL ? event->u.task.text : "");
        break;
    }
}

static const char *const verbs[] = {
    [AGENT_RUN] = "run",
    [AGENT_WITHDRAW] = "withdraw ",
    [AGENT_CUT] = "withdraw what is left of bundle ",
    [AGENT_CANCEL] = "stop ",
    [AGENT_FETCH] = "fetch ",
    [AGENT_FREE] = "free ",
    [AGENT_FREE_LAYER] = "forget the operation of ",
    [AGENT_REPORT_DONE] = "report done ",
    [AGENT_REPORT_FAILED] = "report failed ",
    [AGENT_REPORT_DROPPED] = "give back ",
    [AGENT_REPORT_GONE] = "report gone ",
    [AGENT_ADVERTISE] = "advertise ",
    [AGENT_HAS] = "go on with ",
    [AGENT_DECLINE] = "decline ",
};

static void print_failed(const struct agent_action *action, FILE *out)
{
    print_key(&action->u.key, out);
    if (action->missing_input) {
        fputs(", no ", out);
        print_key(&action->missing, out);
        fprintf(out, " at w%u", action->worker);
    } else {
        fprintf(out, ": %s", action->p.text != NULL ? action->p.text : "");
    }
}

void agent_action_print(const struct agent_action *action, FILE *out)
{
    fputs(verbs[action->type], out);
    switch (action->type) {
    case AGENT_RUN:
        for (size_t r = 0; r < action->u.ranges; r++) {
            fputs(r > 0 ? ", " : " ", out);
            print_range(&action->p.range[r], out);
        }
        break;
    case AGENT_CUT:
        fprintf(out, "%u", action->bundle);
        break;
    case AGENT_FETCH:
        print_key(&action->u.key, out);
        fprintf(out, " from w%u", action->worker);
        break;
    case AGENT_REPORT_FAILED:
        print_failed(action, out);
        break;
    default:
        print_range(&action->u.range, out);
        break;
    }
}
