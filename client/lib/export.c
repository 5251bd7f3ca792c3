#include "client/include/dray.h"

const char *dray_version(void)
{
    return DRAY_VERSION;
}
