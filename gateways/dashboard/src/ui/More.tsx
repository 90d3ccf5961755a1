import { Button } from "./Button";

interface Props {
  of: { hasNextPage: boolean; isFetchingNextPage: boolean; fetchNextPage: () => unknown };
  children?: string;
}

/** The next page of a list, where there is one. */
export function More({ of, children = "More" }: Props) {
  if (!of.hasNextPage) return null;
  return (
    <Button onClick={() => of.fetchNextPage()} busy={of.isFetchingNextPage}>
      {children}
    </Button>
  );
}
