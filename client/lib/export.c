#include "dray.h"

__attribute__((visibility("default"))) const char *dray_version(void)
{
    return DRAY_VERSION;
}
