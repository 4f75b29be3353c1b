/* The oldest kernel that Seine supports; bcc only compares it when a program is a kprobe, which none of ours is. */
#define LINUX_VERSION_CODE 0x060100
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
