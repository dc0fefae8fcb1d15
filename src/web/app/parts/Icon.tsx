// The page's icons, drawn with one stroke on a grid of 24.

const paths = {
  plus: "M12 5v14M5 12h14",
  close: "M6 6l12 12M18 6L6 18",
  back: "M15 5l-7 7 7 7",
  search: "M11 18a7 7 0 100-14 7 7 0 000 14zM20 20l-4-4",
  people: "M9 11a3.5 3.5 0 100-7 3.5 3.5 0 000 7zM2.5 20c0-3.6 2.9-6 6.5-6s6.500 2.400 6.500 6M16 4.300a3.500 3.500 0 010 6.400M18 14.500c2.200.7 3.500 2.700 3.500 5.500",
  pin: "M9 4h6l-.6 6 3.100 3.500H6.500L9.600 10 9 4zM12 13.500V20",
  gear: "M4 7h9M19 7h1M4 12h2M12 12h8M4 17h8M18 17h2M16 4.500v5M9 9.500v5M15 14.500v5",
  reply: "M9 7L4 12l5 5M4 12h9c4 0 7 2 7 6",
  smile: "M12 21a9 9 0 100-18 9 9 0 000 18zM8.500 14.500c.8 1.200 2 1.800 3.500 1.800s2.700-.6 3.500-1.800M9 9.500v.5M15 9.500v.5",
  more: "M5.500 12h.01M12 12h.01M18.500 12h.01",
  send: "M4 12l16-8-5 16-3.500-6.500L4 12zM11.500 13.500L20 4",
  clip: "M19.500 11.500l-7.800 7.800a4.700 4.700 0 01-6.700-6.700l8.200-8.200a3.100 3.100 0 014.500 4.500l-8.200 8.100a1.600 1.600 0 01-2.200-2.200l7.400-7.400",
  thread: "M4 5h16v11h-9l-5 4v-4H4V5zM8 9h8M8 12h5",
  edit: "M4 20l1-4L16.500 4.500l3 3L8 19l-4 1z",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  flag: "M6 21V4h11l-2 4 2 4H6",
  link: "M10 14a4 4 0 006 .4l3-3a4 4 0 00-5.700-5.700l-1.300 1.300M14 10a4 4 0 00-6-.4l-3 3a4 4 0 005.700 5.700l1.300-1.300",
  copy: "M9 9h10v11H9zM15 9V4H5v11h4",
  down: "M12 5v14M6 13l6 6 6-6",
  calendar: "M4 6h16v14H4zM4 10h16M8 3v4M16 3v4",
  file: "M6 3h8l4 4v14H6zM14 3v4h4",
  bell: "M6 16V11a6 6 0 0112 0v5l1.500 2h-15L6 16zM10 20.500h4",
  lock: "M6 11h12v9H6zM8.500 11V8a3.500 3.500 0 017 0v3",
  clock: "M12 21a9 9 0 100-18 9 9 0 000 18zM12 7.500V12l3 2",
  alert: "M12 4l9 16H3l9-16zM12 10v4.500M12 17.200v.3",
  out: "M14 5H5v14h9M10 12h10M16.500 8L20 12l-3.500 4",
  keyboard: "M3 7h18v10H3zM7 10.500h.01M11 10.500h.01M15 10.500h.01M8 14h8",
  menu: "M4 7h16M4 12h16M4 17h16",
  check: "M5 12.500l4.500 4.500L19 7.500",
} as const;

export type IconName = keyof typeof paths;

export function Icon({ name, size = 20 }: { name: IconName; size?: number }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" width={size} height={size} aria-hidden="true">
      <path d={paths[name]} stroke-width={name === "more" ? 3 : undefined} />
    </svg>
  );
}
